//! One 512-byte tar header block: fields, numbers and checksum, strictly.
//! What two known parsers would read differently is refused here or in `entry.rs`.

use std::ops::Range;

pub(crate) const BLOCK: usize = 512;
pub(crate) type Block = [u8; BLOCK];

pub(crate) const NAME: Range<usize> = 0..100;
pub(crate) const MODE: Range<usize> = 100..108;
pub(crate) const UID: Range<usize> = 108..116;
pub(crate) const GID: Range<usize> = 116..124;
pub(crate) const SIZE: Range<usize> = 124..136;
pub(crate) const MTIME: Range<usize> = 136..148;
pub(crate) const CHECKSUM: Range<usize> = 148..156;
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK: Range<usize> = 157..257;
pub(crate) const MAGIC: Range<usize> = 257..265;
pub(crate) const MAJOR: Range<usize> = 329..337;
pub(crate) const MINOR: Range<usize> = 337..345;
pub(crate) const PREFIX: Range<usize> = 345..500;

/// Which dialect a header is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Before POSIX: no devices, no prefix.
    V7,
    /// POSIX, with a prefix field.
    Ustar,
    /// GNU: the prefix's place holds times and sparse maps.
    Gnu,
}

/// Checks the checksum and tells the dialect.
pub(crate) fn check(block: &Block) -> Result<Format, &'static str> {
    let wanted = number(&block[CHECKSUM])?;
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if wanted != unsigned && wanted != signed {
        return Err("wrong checksum");
    }
    Ok(match &block[MAGIC] {
        b"ustar\x0000" => Format::Ustar,
        b"ustar  \0" => Format::Gnu,
        // Some writers leave the version empty; the fields are where POSIX has them.
        magic if magic.starts_with(b"ustar\0") => Format::Ustar,
        _ => Format::V7,
    })
}

/// Refuses malformed numbers, of extensions too: other readers end the archive there, and say nothing.
pub(crate) fn check_numbers(block: &Block, format: Format) -> Result<(), &'static str> {
    let devices = if format == Format::V7 { &[][..] } else { &[MAJOR, MINOR][..] };
    let mut fields = [MODE, UID, GID, MTIME].into_iter().chain(devices.iter().cloned());
    fields.try_for_each(|field| number(&block[field]).map(drop))
}

/// Refuses what some readers take for the beginning of the name, and others for nothing, or for times.
pub(crate) fn check_prefix(block: &Block, format: Format) -> Result<(), &'static str> {
    let has_prefix = block[PREFIX.start] != 0;
    match format {
        Format::Ustar if has_prefix && &block[MAGIC] != b"ustar\x0000" => {
            Err("a prefix stands in a header of no version")
        }
        Format::V7 if has_prefix => Err("a prefix stands in a header of the oldest form"),
        Format::Gnu => {
            let times = [&block[345..357], &block[357..369]];
            times.iter().try_for_each(|field| number(field).map(drop)).map_err(|_| "a GNU header has malformed times")
        }
        Format::Ustar | Format::V7 => Ok(()),
    }
}

/// Returns the bytes of a text field up to its NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Parses a numeric field: octal, or GNU base-256 (signed).
pub(crate) fn number(field: &[u8]) -> Result<i64, &'static str> {
    if field[0] & 0x80 != 0 {
        return base256(field);
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err("a number is followed by other characters");
    }
    let mut value = 0_i64;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err("a number is not octal");
        }
        value = value.checked_mul(8).ok_or("a number is too large")? + i64::from(digit - b'0');
    }
    Ok(value)
}

fn base256(field: &[u8]) -> Result<i64, &'static str> {
    let negative = field[0] & 0x40 != 0;
    let mut value = i128::from(field[0] & 0x3f) - if negative { 0x40 } else { 0 };
    for byte in &field[1..] {
        value = value * 256 + i128::from(*byte);
    }
    i64::try_from(value).map_err(|_| "a number is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        let cases: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\0\0\0\0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"-644\0\0\0\0", None),
            (b"+644\0\0\0\0", None),
            (b"0x1f\0\0\0\0", None),
            (b"12 34\0\0\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, wanted) in cases {
            assert_eq!(number(field).ok(), *wanted, "{}", field.escape_ascii());
        }
    }
}

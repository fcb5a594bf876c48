//! PAX extended header records: `"<length> <key>=<value>\n"`, values being any bytes.
//! Parsing is strict; writing computes lengths that include themselves.

use crate::tree::Time;

/// A key and its value.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// Splits a PAX body into its records.
pub(crate) fn parse(mut body: &[u8]) -> Result<Vec<Record>, &'static str> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|byte| *byte == b' ').ok_or("a PAX record has no length")?;
        let length = usize::try_from(decimal(&body[..space])?).map_err(|_| "a PAX record is too long")?;
        if length <= space + 1 || length > body.len() {
            return Err("a PAX record has a wrong length");
        }
        let (record, rest) = body.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or("a PAX record does not end in a newline")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("a PAX record has no '='")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("a PAX key is malformed");
        }
        records.push((key.to_vec(), value.to_vec()));
        body = rest;
    }
    Ok(records)
}

/// Parses an unsigned decimal: digits only.
pub(crate) fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err("a PAX number is not decimal");
    }
    text.iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or("a PAX number is too large")
}

/// Parses a PAX time: signed decimal seconds with a fraction.
pub(crate) fn time(text: &[u8]) -> Result<Time, &'static str> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a PAX time is not decimal");
    }
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| "a PAX time is too large")?;
    let nanoseconds =
        (0..9).fold(0_i64, |value, place| value * 10 + fraction.get(place).map_or(0, |digit| i64::from(digit - b'0')));
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// Formats a time as PAX has it: the sign stands for the whole number.
pub(crate) fn format_time(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, fraction) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - fraction),
        (false, fraction) => ("", time.seconds.unsigned_abs(), fraction),
    };
    match nanoseconds {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{}", format!("{nanoseconds:09}").trim_end_matches('0')),
    }
}

/// Appends one record.
pub(crate) fn push(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while bare + length.to_string().len() != length {
        length = bare + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_length_and_bytes_survive_a_round_trip() {
        for length in (0..1200).chain([9_980, 9_990, 99_990]) {
            let value: Vec<u8> = (0..length).map(|index: usize| (index % 251) as u8).collect();
            let mut body = Vec::new();
            push(&mut body, b"key", &value);
            push(&mut body, b"other", b"a\nb=c\0");

            let records = parse(&body).unwrap_or_else(|reason| panic!("{length}: {reason}"));

            assert_eq!(records, [(b"key".to_vec(), value), (b"other".to_vec(), b"a\nb=c\0".to_vec())]);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        let cases: [&[u8]; 9] = [
            b"x",
            b"9 a=b\n",
            b"5 a=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"6 a=bc",
            b"5 ab\n",
            b"5 =b\n",
            b"99999999999999999999 a=b\n",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{}", case.escape_ascii());
        }
    }

    #[test]
    fn times_keep_their_sign_and_fraction() {
        let cases: [(&[u8], i64, i64); 6] = [
            (b"0", 0, 0),
            (b"1.5", 1, 500_000_000),
            (b"-1.5", -2, 500_000_000),
            (b"-1", -1, 0),
            (b"-0.000000001", -1, 999_999_999),
            (b"12.0000000019", 12, 1),
        ];
        for (text, seconds, nanoseconds) in cases {
            let parsed = time(text).expect("the case is valid");
            assert_eq!(parsed, Time { seconds, nanoseconds }, "{}", text.escape_ascii());
            assert_eq!(time(format_time(parsed).as_bytes()), Ok(parsed));
        }
        for bad in [&b""[..], b"-", b"1.-5", b"1e3", b" 1", b"--1", b"9223372036854775808"] {
            assert!(time(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}

//! The binary form of plain data: little-endian integers, u32 counts, one byte per variant.
//! Every count and every variant is checked; a decoder never allocates more than its input could hold.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends before the value does.
    Truncated,
    /// Bytes are left over after the value.
    Trailing,
    /// A variant, boolean or text has no meaning.
    Invalid,
    /// A length is over its cap.
    TooLarge,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Truncated => "input ends too early",
            Self::Trailing => "input has trailing bytes",
            Self::Invalid => "input has a value without meaning",
            Self::TooLarge => "input is over its size limit",
        })
    }
}

impl std::error::Error for DecodeError {}

/// What is left of an input.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// A value with a binary form.
pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let bytes = input.bytes(size_of::<$type>())?;
                Ok(<$type>::from_le_bytes(bytes.try_into().expect("the length was asked for")))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid),
        }
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    (bytes.len() as u32).put(out);
    out.extend_from_slice(bytes);
}

fn take_bytes(input: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let count = u32::take(input)? as usize;
    Ok(input.bytes(count)?.to_vec())
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        String::from_utf8(take_bytes(input)?).map_err(|_| DecodeError::Invalid)
    }
}

impl Wire for OsString {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(OsString::from_vec(take_bytes(input)?))
    }
}

impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_os_str().as_bytes(), out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        OsString::take(input).map(PathBuf::from)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::take(input)? { T::take(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        for value in self {
            value.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = u32::take(input)? as usize;
        // Every element takes at least one byte, so a lying count fails before it allocates.
        if count > input.0.len() {
            return Err(DecodeError::Truncated);
        }
        (0..count).map(|_| T::take(input)).collect()
    }
}

/// Declares structs of plain data with their binary form: the fields in order.
macro_rules! records {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl crate::codec::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(crate::codec::Wire::put(&self.$field, out);)*
            }
            fn take(
                input: &mut crate::codec::Reader<'_>,
            ) -> Result<Self, crate::codec::DecodeError> {
                Ok(Self { $($field: crate::codec::Wire::take(input)?,)* })
            }
        }
    )*};
}

/// Declares an enum of plain data with its binary form: one byte for the variant, then its fields.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $tag:literal = $variant:ident $({
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        })?,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type,)* })?,)*
        }

        impl crate::codec::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field,)* })? => {
                        out.push($tag);
                        $($(crate::codec::Wire::put($field, out);)*)?
                    })*
                }
            }
            fn take(
                input: &mut crate::codec::Reader<'_>,
            ) -> Result<Self, crate::codec::DecodeError> {
                match <u8 as crate::codec::Wire>::take(input)? {
                    $($tag => Ok(Self::$variant $({ $($field: crate::codec::Wire::take(input)?,)* })?),)*
                    _ => Err(crate::codec::DecodeError::Invalid),
                }
            }
        }
    };
}

pub(crate) use {choice, records};

//! `RUN --device`: the name of a device or of a class of devices, and whether the step can do without.

use thiserror::Error;

use crate::{mount, suggest};

/// What a device can be given besides its name.
const KEYS: [&str; 2] = ["name", "required"];

/// A device that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor.com/class=name`, `vendor.com/class`, `vendor.com/class=*`, or a class that annotations name.
    pub name: String,
    /// Without it the step fails.
    pub is_required: bool,
}

/// Why a device is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Not comma-separated values.
    #[error("invalid --device {text:?}: a quote in it is misplaced or never closed")]
    Quotes {
        /// The value.
        text: String,
    },
    /// There is no name in it.
    #[error("a device needs a name, such as vendor.com/class=name")]
    MissingName,
    /// There are two names in it.
    #[error("a device has one name, and {name:?} is the second: each device is a flag --device of its own")]
    SecondName {
        /// The second.
        name: String,
    },
    /// A key that no device has.
    #[error("unknown device option {key:?}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// Something else than true or false.
    #[error("invalid value {value:?} of device option \"required\": it must be true or false")]
    InvalidValue {
        /// The value.
        value: String,
    },
    /// A variable.
    #[error("variables do not expand in --device: {name:?}")]
    Variable {
        /// The name.
        name: String,
    },
}

impl DeviceError {
    /// What was probably meant.
    pub fn suggestion(&self) -> Option<&'static str> {
        match self {
            DeviceError::UnknownKey { key } => suggest::nearest(key, KEYS),
            _ => None,
        }
    }
}

/// Parses the value of `--device`. The first part that is no option is the name, though it may hold a `=`.
pub fn parse(text: &str) -> Result<Device, DeviceError> {
    let fields = mount::split(text).ok_or_else(|| DeviceError::Quotes { text: text.to_owned() })?;
    let mut name: Option<String> = None;
    let mut is_required = false;
    for field in fields {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let named = match (key.to_ascii_lowercase().as_str(), value) {
            ("required", None) => {
                is_required = true;
                continue;
            }
            ("required", Some(value)) => {
                let wrong = || DeviceError::InvalidValue { value: value.to_owned() };
                is_required = mount::parse_bool(value).ok_or_else(wrong)?;
                continue;
            }
            ("name", Some(value)) => value,
            // An option of another name has no slash in it; a second device has.
            (_, Some(_)) if name.is_some() && !key.contains('/') => {
                return Err(DeviceError::UnknownKey { key: key.to_owned() });
            }
            _ => &field,
        };
        if name.is_some() {
            return Err(DeviceError::SecondName { name: named.to_owned() });
        }
        name = Some(named.to_owned());
    }
    match name {
        None => Err(DeviceError::MissingName),
        Some(name) if name.is_empty() => Err(DeviceError::MissingName),
        Some(name) if name.contains('$') => Err(DeviceError::Variable { name }),
        Some(name) => Ok(Device { name, is_required }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_name_and_may_be_required() {
        for (text, name, is_required) in [
            ("vendor.com/gpu=0", "vendor.com/gpu=0", false),
            ("vendor.com/gpu", "vendor.com/gpu", false),
            ("gpu", "gpu", false),
            ("vendor.com/gpu=*,required", "vendor.com/gpu=*", true),
            ("required,gpu", "gpu", true),
            ("name=vendor.com/gpu=0,required=true", "vendor.com/gpu=0", true),
            ("Name=gpu,Required=0", "gpu", false),
            ("gpu,required,required=false", "gpu", false),
            ("\"gpu\",required", "gpu", true),
        ] {
            assert_eq!(parse(text), Ok(Device { name: name.to_owned(), is_required }), "{text}");
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for (text, said) in [
            ("", "needs a name"),
            ("required", "needs a name"),
            ("name=", "needs a name"),
            ("gpu,requird", "\"requird\" is the second"),
            ("gpu,requird=true", "unknown device option \"requird\""),
            ("a.com/b=c,d.com/e=f", "\"d.com/e=f\" is the second"),
            ("a,name=b", "\"b\" is the second"),
            ("gpu,required=maybe", "\"maybe\""),
            ("gpu\"", "quote"),
            ("vendor.com/gpu=$N", "variables do not expand"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
        assert_eq!(parse("gpu,requird=1").expect_err("no such key").suggestion(), Some("required"));
    }
}

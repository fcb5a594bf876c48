//! How a refusal is looked at: code, reason, details, and the rules that hold for every one of them.

use std::{collections::HashMap, fmt::Debug};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refusal that keeps the rules.
#[derive(Debug)]
pub struct Refusal {
    /// One line for people.
    pub message: String,
    /// Facts for programs.
    pub metadata: HashMap<String, String>,
    /// Fields that are wrong.
    pub fields: Vec<String>,
    /// Type and name of what is missing or in the way.
    pub resource: Option<(String, String)>,
}

impl Refusal {
    /// Insists on this one field.
    #[track_caller]
    pub fn field(self, name: &str) -> Self {
        assert_eq!(self.fields, [name], "{self:?}");
        self
    }

    /// Insists on this resource.
    #[track_caller]
    pub fn resource(self, kind: &str, name: &str) -> Self {
        assert_eq!(self.resource, Some((kind.to_owned(), name.to_owned())), "{self:?}");
        self
    }

    /// Insists on this fact.
    #[track_caller]
    pub fn fact(self, key: &str, value: &str) -> Self {
        assert_eq!(self.metadata.get(key).map(String::as_str), Some(value), "{self:?}");
        self
    }
}

/// Insists on a refusal with this code and reason.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, Status>, code: Code, reason: &str) -> Refusal {
    let status = result.expect_err("it should have been refused");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{}", status.message());
    assert_eq!(info.domain, "strata");
    let message = status.message();
    assert!(!message.is_empty() && !message.contains('\n') && !message.ends_with('.'), "for people: {message:?}");
    let cause = status.metadata().iter().any(|pair| format!("{pair:?}").contains("strata-cause"));
    assert!(!cause, "causes stay in the log: {status:?}");
    let fields = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let resource = status.get_details_resource_info();
    Refusal {
        message: message.to_owned(),
        metadata: info.metadata,
        fields: fields.into_iter().map(|violation| violation.field).collect(),
        resource: resource.map(|info| (info.resource_type, info.resource_name)),
    }
}

/// Insists that a field is refused, whatever the state is.
#[track_caller]
pub fn malformed<T: Debug>(result: Result<T, Status>, field: &str) -> Refusal {
    refused(result, Code::InvalidArgument, "FAULT_INVALID_ARGUMENT").field(field)
}

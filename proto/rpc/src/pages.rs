//! Pages of lists: opaque tokens that hold the last key sent, and a cap on the size.

use tonic::Code;

use crate::fault::Fault;

const USUAL: usize = 100;
const MOST: usize = 1000;

/// A page token that this service did not make.
#[derive(Debug, thiserror::Error)]
#[error("page_token {token:?} was not made by this service")]
pub struct BadToken {
    token: String,
}

impl Fault for BadToken {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
    fn reason(&self) -> &'static str {
        "FAULT_INVALID_ARGUMENT"
    }
    fn field(&self) -> Option<(String, String)> {
        Some(("page_token".into(), self.to_string()))
    }
}

/// Items per page: 0 means 100, more than 1000 means 1000.
pub fn size(asked: u32) -> usize {
    match asked {
        0 => USUAL,
        n => (n as usize).min(MOST),
    }
}

/// The token after the item with this key.
pub fn encode(last_key: &str) -> String {
    format!("1{}", hex::encode(last_key))
}

/// The key after which the page starts; `None` for the first page.
pub fn decode(token: &str) -> Result<Option<String>, BadToken> {
    if token.is_empty() {
        return Ok(None);
    }
    let key =
        token.strip_prefix('1').and_then(|digits| hex::decode(digits).ok()).and_then(|b| String::from_utf8(b).ok());
    key.map(Some).ok_or_else(|| BadToken { token: token.chars().take(80).collect() })
}

/// Cuts `items`, of which one more than `size` was fetched, to a page; returns the token of the next (empty: the end).
pub fn cut<T>(items: &mut Vec<T>, size: usize, key: impl Fn(&T) -> String) -> String {
    if items.len() <= size {
        return String::new();
    }
    items.truncate(size);
    items.last().map(|item| encode(&key(item))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_a_list_once_and_end() {
        let all: Vec<String> = (0..25).map(|n| format!("k{n:02}")).collect();
        let (mut token, mut seen) = (String::new(), vec![]);
        loop {
            let after = decode(&token).unwrap();
            let mut page: Vec<String> =
                all.iter().filter(|k| after.as_ref().is_none_or(|a| *k > a)).take(11).cloned().collect();
            token = cut(&mut page, 10, String::clone);
            seen.extend(page);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    /// CVE-2023-2253 of distribution, below 1D: no page is as large as somebody asks.
    #[test]
    fn sizes_are_capped_and_foreign_tokens_refused() {
        assert_eq!((size(0), size(7), size(5000)), (100, 7, 1000));
        for bad in ["x", "1zz", "161f", "1ff"] {
            assert!(decode(bad).is_err(), "{bad} was taken");
        }
    }
}

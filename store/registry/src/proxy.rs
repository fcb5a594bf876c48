//! Through which proxy a request goes: the configuration's, else the environment's.

use reqwest::{NoProxy, Proxy};

use crate::{config::ProxySettings, error::Cause};

/// This machine is never reached through a proxy.
const NEVER: &str = "localhost,127.0.0.0/8,::1";

/// The proxies of the configuration, or where it has none, those of the environment.
pub(crate) fn proxies(
    settings: &ProxySettings,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Proxy>, Cause> {
    let chosen = choose(settings, environment);
    let mut proxies = Vec::new();
    for (url, make, setting) in [
        (&chosen.http, Proxy::http as fn(String) -> reqwest::Result<Proxy>, "proxy.http"),
        (&chosen.https, Proxy::https as fn(String) -> reqwest::Result<Proxy>, "proxy.https"),
    ] {
        let Some(url) = url else { continue };
        // The URL may hold a password: the error tells the setting instead.
        let proxy = make(url.clone()).map_err(|source| Cause::Setting {
            setting: format!("the URL of registries.{setting}, or of the environment's HTTP_PROXY or HTTPS_PROXY"),
            source: source.without_url(),
        })?;
        let none = chosen.no_proxy.iter().map(String::as_str).chain([NEVER]).collect::<Vec<_>>().join(",");
        proxies.push(proxy.no_proxy(NoProxy::from_string(&none)));
    }
    Ok(proxies)
}

fn choose(settings: &ProxySettings, environment: impl Fn(&str) -> Option<String>) -> ProxySettings {
    if settings.http.is_some() || settings.https.is_some() {
        return settings.clone();
    }
    let first =
        |names: &[&str]| names.iter().find_map(|name| environment(name).filter(|value| !value.trim().is_empty()));
    // In a CGI program HTTP_PROXY is a header of the request: CVE-2016-5385.
    let is_cgi = environment("REQUEST_METHOD").is_some();
    let http = if is_cgi { first(&["http_proxy"]) } else { first(&["http_proxy", "HTTP_PROXY"]) };
    let https = first(&["https_proxy", "HTTPS_PROXY"]);
    let mut no_proxy = settings.no_proxy.clone();
    no_proxy.extend(first(&["no_proxy", "NO_PROXY"]));
    let all = first(&["all_proxy", "ALL_PROXY"]);
    ProxySettings { http: http.or_else(|| all.clone()), https: https.or(all), no_proxy }
}

/// The variables of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_environment_counts_where_nothing_is_set() {
        let unset = ProxySettings::default();
        let chosen =
            choose(&unset, variables(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "a,b"), ("http_proxy", "")]));
        assert_eq!((chosen.http, chosen.https, chosen.no_proxy), (None, Some("http://p:1".into()), vec!["a,b".into()]));
        let all = choose(&unset, variables(&[("ALL_PROXY", "http://p:1")]));
        assert_eq!((all.http.as_deref(), all.https.as_deref()), (Some("http://p:1"), Some("http://p:1")));
        let set = ProxySettings { https: Some("http://q:2".into()), ..ProxySettings::default() };
        let chosen = choose(&set, variables(&[("HTTP_PROXY", "http://p:1")]));
        assert_eq!((chosen.http, chosen.https), (None, Some("http://q:2".into())));
    }

    #[test]
    fn a_cgi_program_does_not_take_a_header_for_a_proxy() {
        let chosen =
            choose(&ProxySettings::default(), variables(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:1")]));
        assert_eq!(chosen.http, None);
    }

    /// CVE-2019-13509, row 123.
    #[test]
    fn a_malformed_proxy_is_named_by_its_setting_and_shows_no_password() {
        let settings = ProxySettings { http: Some("http://u:canary@".into()), ..ProxySettings::default() };
        assert!(!format!("{settings:?}").contains("canary"));
        let error = proxies(&settings, |_| None).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("proxy.http") && !text.contains("canary"), "{text}");
    }
}

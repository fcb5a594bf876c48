//! Who gets to see credentials and tokens, and what happens when they expire.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use strata_registry::{
    Cause, Client, CredentialSource, Credentials, Given, Host, Keychain, Kind, Progress, Pushed, Secret, Target,
};

use crate::{
    anonymous, chain, fetch, layer,
    model::Model,
    password_at, repository, sample,
    server::{Reply, Seen, Server},
    settings,
};

/// "me:canary-4711".
const BASIC: &str = "Basic bWU6Y2FuYXJ5LTQ3MTE=";

/// A token server that numbers its tokens and notes what they are for.
async fn token_server(expires_in: u64) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        Reply::new(200).body(format!(r#"{{"token":"t{number}","expires_in":{expires_in}}}"#))
    })
    .await
}

fn challenge(realm: &str) -> Reply {
    let text = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:a/b:pull""#);
    Reply::new(401)
        .header("WWW-Authenticate", text)
        .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#)
}

/// A registry that takes one token at a time.
async fn guarded(model: Arc<Model>, realm: String, good: Arc<Mutex<String>>) -> Server {
    Server::start(move |seen| match seen.header("authorization") {
        Some(header) if header == format!("Bearer {}", good.lock().unwrap()) => model.reply(seen),
        _ => challenge(&realm),
    })
    .await
}

/// As [`guarded`], by this token server; the token that it takes is always the same.
async fn guarded_by(tokens: &Server, model: Arc<Model>, good: &str) -> Server {
    guarded(model, format!("http://{}/token", tokens.host()), Arc::new(Mutex::new(good.to_owned()))).await
}

#[tokio::test]
async fn basic_is_sent_when_it_is_asked_for_and_only_then() {
    let bytes = sample(100);
    let model = Model::with_blobs(&[&bytes]);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => model.reply(seen),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let known = repository(&server.host(), "", password_at(&server.host()));

    assert_eq!(fetch(&known, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    assert_eq!(fetch(&known, &layer(&bytes), Progress::new()).await.unwrap(), bytes);

    assert_eq!(server.seen()[0].header("authorization"), None);
    assert_eq!(server.seen().len(), 3, "the challenge is learnt once");
}

/// CVE-2019-13509, row 123.
#[tokio::test]
async fn a_refused_login_says_what_to_do_and_shows_no_secret() {
    let server = Server::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    for (credentials, expected) in [(anonymous(), "anonymous access"), (password_at(&server.host()), "the credentials")]
    {
        let repository = repository(&server.host(), "", credentials);

        let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

        assert_eq!(error.kind(), Kind::Unauthorized);
        let text = chain(&error);
        assert!(text.contains(expected) && text.contains(&format!("ctl login {}", server.host())), "{text}");
        assert!(!format!("{text} {error:?} {repository:?}").contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn one_token_serves_until_it_expires() {
    let bytes = sample(100);
    let tokens = token_server(300).await;
    let server = guarded_by(&tokens, Model::with_blobs(&[&bytes]), "t1").await;
    let repository = repository(&server.host(), "", password_at(&server.host()));

    for _ in 0..3 {
        assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    }

    assert_eq!((tokens.seen().len(), server.seen().len()), (1, 4));
    let asked = &tokens.seen()[0];
    assert_eq!(asked.header("authorization"), Some(BASIC));
    assert_eq!(asked.parameters("service"), ["reg"]);
    assert_eq!(asked.parameters("scope"), ["repository:a/b:pull"]);
    assert!(server.seen().iter().all(|seen| seen.header("authorization") != Some(BASIC)));
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_a_blob_is_replaced() {
    let bytes = sample(100_000);
    let tokens = token_server(300).await;
    let good = Arc::new(Mutex::new("t1".to_owned()));
    let (model, realm, expire) =
        (Model::with_blobs(&[&bytes]), format!("http://{}/token", tokens.host()), good.clone());
    let server = Server::start(move |seen| {
        let mut good = expire.lock().unwrap();
        if seen.header("authorization") != Some(format!("Bearer {good}").as_str()) {
            return challenge(&realm);
        }
        let reply = model.reply(seen);
        if *good == "t1" {
            *good = "t2".to_owned();
            return reply.cut(40_000);
        }
        reply
    })
    .await;
    let repository = repository(&server.host(), "", anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);

    assert_eq!(tokens.seen().len(), 2);
    assert!(server.written() < bytes.len() + 1_000, "what was there was fetched again");
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_of_an_upload_is_replaced() {
    let bytes = sample(3 << 20);
    let tokens = token_server(300).await;
    let good = Arc::new(Mutex::new("t1".to_owned()));
    let (model, realm, expire) = (Model::with_blobs(&[]), format!("http://{}/token", tokens.host()), good.clone());
    let shared = model.clone();
    let server = Server::start(move |seen| {
        let mut good = expire.lock().unwrap();
        if seen.header("authorization") != Some(format!("Bearer {good}").as_str()) {
            return challenge(&realm);
        }
        if seen.header("content-range").is_some_and(|range| range.starts_with("1048576-")) && *good != "t9" {
            *good = "t3".to_owned();
        }
        shared.reply(seen)
    })
    .await;
    let table = format!("[host.\"{}\"]\nchunk_bytes = 1048576", server.host());
    let repository = repository(&server.host(), &table, anonymous());

    let pushed = repository.push_blob(&layer(&bytes), &bytes, None).await;

    // The first token is for the look and the upload: later ones are t2 (never good) and t3.
    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(model.has_blob(&bytes));
}

#[tokio::test]
async fn a_token_that_never_suffices_ends_in_an_error() {
    let tokens = token_server(300).await;
    let server = guarded_by(&tokens, Model::with_blobs(&[]), "no").await;
    let repository = repository(&server.host(), "", anonymous());

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(chain(&error).contains("UNAUTHORIZED: who are you"), "{}", chain(&error));
    assert!(server.seen().len() <= 3 && tokens.seen().len() <= 2);
}

#[tokio::test]
async fn an_identity_token_is_posted_to_the_token_server_alone() {
    let bytes = sample(100);
    let tokens = token_server(300).await;
    let server = guarded_by(&tokens, Model::with_blobs(&[&bytes]), "t1").await;
    let given = Given {
        host: Host::parse(&server.host()).unwrap(),
        credentials: Credentials::IdentityToken(Secret::new("refresh&canary")),
    };
    let repository = repository(&server.host(), "", Arc::new(given));

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);

    let asked = &tokens.seen()[0];
    assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", None));
    let form = String::from_utf8(asked.body.clone()).unwrap();
    for part in
        ["grant_type=refresh_token", "refresh_token=refresh%26canary", "service=reg", "scope=repository%3Aa%2Fb%3Apull"]
    {
        assert!(form.contains(part), "{form}");
    }
    let shows = |seen: &Seen| format!("{seen:?}").contains("canary");
    assert!(!server.seen().iter().any(shows));
}

/// CVE-2020-15157, row 120.
#[tokio::test]
async fn a_token_server_elsewhere_gets_credentials_by_leave_only() {
    let bytes = sample(100);
    let tokens = token_server(300).await;
    // The same machine by another name is another host.
    let realm = format!("http://localhost:{}/token", tokens.address.port());
    let server = guarded(Model::with_blobs(&[&bytes]), realm, Arc::new(Mutex::new("t1".into()))).await;
    let known = repository(&server.host(), "", password_at(&server.host()));

    let error = fetch(&known, &layer(&bytes), Progress::new()).await.unwrap_err();
    assert!(matches!(error.cause(), Some(Cause::Realm { .. })), "{error:?}");
    assert!(chain(&error).contains("token_realms"), "{}", chain(&error));
    assert_eq!(tokens.seen().len(), 0);

    let table = format!("[host.\"{}\"]\ntoken_realms = [\"localhost:{}\"]", server.host(), tokens.address.port());
    let allowed = repository(&server.host(), &table, password_at(&server.host()));
    assert_eq!(fetch(&allowed, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    assert_eq!(tokens.seen()[0].header("authorization"), Some(BASIC));
}

#[tokio::test]
async fn an_anonymous_token_may_come_from_elsewhere() {
    let bytes = sample(100);
    let tokens = token_server(300).await;
    let realm = format!("http://localhost:{}/token", tokens.address.port());
    let server = guarded(Model::with_blobs(&[&bytes]), realm, Arc::new(Mutex::new("t1".into()))).await;
    let repository = repository(&server.host(), "", anonymous());

    assert_eq!(fetch(&repository, &layer(&bytes), Progress::new()).await.unwrap(), bytes);
    assert_eq!(tokens.seen()[0].header("authorization"), None);
}

/// CVE-2020-15157, row 120.
#[tokio::test]
async fn a_redirect_of_the_token_server_is_not_followed() {
    let elsewhere = token_server(300).await;
    let target = format!("http://{}/token", elsewhere.host());
    let tokens = Server::start(move |_| Reply::new(307).header("Location", &target)).await;
    let server = guarded_by(&tokens, Model::with_blobs(&[]), "t1").await;
    let repository = repository(&server.host(), "", password_at(&server.host()));

    repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert_eq!(elsewhere.seen().len(), 0);
}

/// CVE-2020-15157, row 120: not even those that are known for that host.
#[tokio::test]
async fn a_challenge_from_another_host_gets_no_credentials() {
    let third = Server::start(|_| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let target = format!("http://{}/blob", third.host());
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => Reply::new(307).header("Location", &target),
        _ => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    })
    .await;
    let everywhere: Vec<Arc<dyn CredentialSource>> = vec![password_at(&server.host()), password_at(&third.host())];
    let repository = repository(&server.host(), "", Arc::new(everywhere));

    let error = fetch(&repository, &layer(&sample(10)), Progress::new()).await.unwrap_err();

    assert_eq!(error.kind(), Kind::Unauthorized);
    assert_eq!(third.seen().len(), 1);
    assert_eq!(third.seen()[0].header("authorization"), None);
}

/// CVE-2021-41092, row 121: nothing is asked for in somebody else's name.
#[tokio::test]
async fn a_helper_that_fails_is_an_error_and_not_anonymous_access() {
    let tokens = token_server(300).await;
    let server = guarded_by(&tokens, Model::with_blobs(&[]), "t1").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), r#"{"credsStore":"surely-not-installed"}"#).unwrap();
    let repository = repository(&server.host(), "", Arc::new(Keychain::new(dir.path().join("config.json"))));

    let error = repository.manifest(&Target::Tag("latest".into())).await.unwrap_err();

    assert!(matches!(error.cause(), Some(Cause::Credentials { .. })), "{error:?}");
    assert!(chain(&error).contains("docker-credential-surely-not-installed"), "{}", chain(&error));
    assert_eq!((server.seen().len(), tokens.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_login_is_tried_and_keeps_a_refresh_token_where_there_is_one() {
    let tokens = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => Reply::new(200).body(r#"{"access_token":"t1","refresh_token":"refresh"}"#),
        _ => Reply::new(401).body(r#"{"details":"incorrect username or password"}"#),
    })
    .await;
    let server = guarded_by(&tokens, Model::with_blobs(&[]), "t1").await;
    let client = Client::new(settings(""), anonymous()).unwrap();
    let host = Host::parse(&server.host()).unwrap();
    let password = |text: &str| Credentials::Password { username: "me".into(), password: Secret::new(text) };

    let kept = client.login(&host, password("canary-4711")).await.unwrap();
    let refused = client.login(&host, password("wrong")).await.unwrap_err();

    assert_eq!(kept, Credentials::IdentityToken(Secret::new("refresh")));
    assert_eq!(tokens.seen().last().map(|seen| seen.parameters("account")), Some(vec!["me".to_owned()]));
    assert_eq!(refused.kind(), Kind::Unauthorized);
}

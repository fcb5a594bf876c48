//! Searches: of registries that answer them, of those that only list what they have, and of those that have no end.

use strata_registry::{Client, Found, Host, Kind, Result};

use crate::{
    anonymous, chain, password_at,
    server::{Reply, Server},
    settings,
};

async fn search(host: &str, table: &str, term: &str, most: usize) -> Result<Vec<Found>> {
    let client = Client::new(settings(table), anonymous()).unwrap();
    client.search(&Host::parse(host).unwrap(), term, most).await
}

fn names(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| found.name.split_once('/').unwrap().1).collect()
}

/// A registry that lists these and answers no searches, whatever it says to them.
async fn listing(no: Reply, repositories: &'static str) -> Server {
    Server::start(move |seen| match seen.path() {
        "/v2/_catalog" => Reply::new(200).body(repositories),
        _ => no.clone(),
    })
    .await
}

#[tokio::test]
async fn a_registry_that_searches_is_asked() {
    let server = Server::start(|_| {
        Reply::new(200).body(
            r#"{"num_results":4,"results":[
            {"name":"team/app","description":"an \u001b[31mapp","star_count":7,"is_official":true,"is_automated":true},
            {"name":"team/../app","star_count":1}, {"name":7}, {"name":"other","description":null,"star_count":-1}, {"name":"third"}]}"#,
        )
    })
    .await;

    let found = search(&server.host(), "", "an app&n=1", 2).await.unwrap();

    assert_eq!(names(&found), ["team/app", "other"], "what is no name is left out, and no more than so many are taken");
    let first = &found[0];
    assert_eq!((first.name.clone(), first.stars), (format!("{}/team/app", server.host()), 7));
    assert!(first.is_official && first.is_automated && !found[1].is_official);
    assert_eq!((first.description.as_str(), found[1].description.as_str()), ("an \u{1b}[31mapp", ""));
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].path()), (1, "/v1/search"));
    assert_eq!(
        (seen[0].parameters("q"), seen[0].parameters("n")),
        (vec!["an app&n=1".to_owned()], vec!["2".to_owned()])
    );
}

#[tokio::test]
async fn of_a_registry_that_does_not_search_all_is_listed_and_chosen_from() {
    for no in [
        Reply::new(404).body("404 page not found"),
        Reply::new(200).body("<html>welcome</html>"),
        Reply::new(200).body("{}"),
        Reply::new(403),
        Reply::new(405),
    ] {
        let server = listing(no, r#"{"repositories":["a","team/app","app","apps","App","app:1"]}"#).await;

        assert_eq!(names(&search(&server.host(), "", "APP", 25).await.unwrap()), ["app", "team/app", "apps"]);
        assert_eq!(names(&search(&server.host(), "", "", 2).await.unwrap()), ["a", "team/app"]);
        assert_eq!(server.count("GET /v1/search"), 1, "without a term nothing is searched");
    }
}

#[tokio::test]
async fn a_list_comes_page_by_page_and_no_further_than_is_needed() {
    let server = Server::start(|seen| match (seen.path(), seen.parameters("last").pop().as_deref()) {
        ("/v2/_catalog", None) => Reply::new(200)
            .header("Link", "</v2/_catalog?last=b&n=2>; rel=\"next\"")
            .body(r#"{"repositories":["app/a","b"]}"#),
        ("/v2/_catalog", Some("b")) => Reply::new(200)
            .header("Link", "<https://inside.test/v2/_catalog?last=d>; rel=\"next\"")
            .body(r#"{"repositories":["app/c","app/d"]}"#),
        ("/v2/_catalog", Some(_)) => Reply::new(200).body(r#"{"repositories":null}"#),
        _ => Reply::new(404),
    })
    .await;

    assert_eq!(names(&search(&server.host(), "", "app", 25).await.unwrap()), ["app/a", "app/c", "app/d"]);
    assert_eq!(server.count("GET /v2/_catalog"), 3);
    assert_eq!(names(&search(&server.host(), "", "app", 2).await.unwrap()), ["app/a", "app/c"]);
    assert_eq!(server.count("GET /v2/_catalog"), 5);
}

#[tokio::test]
async fn what_has_no_end_ends() {
    let endless = Server::start(|seen| {
        let number: u64 = seen.parameters("last").pop().map_or(0, |last| last.parse().unwrap());
        let link = format!("</v2/_catalog?last={}>; rel=\"next\"", number + 1);
        Reply::new(200).header("Link", link).body(r#"{"repositories":["x"]}"#)
    })
    .await;
    let circle = Server::start(|seen| {
        Reply::new(200).header("Link", format!("<{}>; rel=next", seen.target)).body(r#"{"repositories":["x"]}"#)
    })
    .await;
    let flood = Server::start(|_| Reply { is_endless: true, ..Reply::new(200).body(vec![b'['; 64 << 10]) }).await;
    let long = Server::start(|_| {
        let description = "d".repeat(100_000);
        Reply::new(200).body(format!(r#"{{"results":[{{"name":"x","description":"{description}"}}]}}"#))
    })
    .await;

    assert_eq!(search(&endless.host(), "", "app", 25).await.unwrap_err().kind(), Kind::Refused);
    assert!(endless.seen().len() <= 1_001, "{}", endless.seen().len());
    assert_eq!(search(&circle.host(), "", "app", 25).await.unwrap(), []);
    assert_eq!(search(&flood.host(), "", "app", 25).await.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(search(&long.host(), "", "x", 25).await.unwrap()[0].description.len(), 1_000);
}

#[tokio::test]
async fn a_registry_with_neither_says_so_and_one_that_is_down_is_asked_once() {
    let deaf = Server::start(|_| Reply::new(404)).await;
    let error = search(&deaf.host(), "", "app", 25).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    let text = chain(&error);
    assert!(text.contains(&deaf.host()) && text.contains("neither searches nor lists"), "{text}");

    let down = Server::start(|_| Reply::new(500)).await;
    let error = search(&down.host(), "attempts = 1", "app", 25).await.unwrap_err();
    assert_eq!((error.kind(), down.seen().len()), (Kind::Unavailable, 1));
}

#[tokio::test]
async fn credentials_go_where_they_are_asked_for() {
    let server = Server::start(|seen| match (seen.path(), seen.header("authorization")) {
        ("/v2/_catalog", None) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        ("/v2/_catalog", Some(_)) => Reply::new(200).body(r#"{"repositories":["app"]}"#),
        _ => Reply::new(404),
    })
    .await;
    let host = Host::parse(&server.host()).unwrap();
    let known = Client::new(settings(""), password_at(&server.host())).unwrap();

    assert_eq!(names(&known.search(&host, "app", 25).await.unwrap()), ["app"]);
    assert!(server.seen().iter().all(|seen| seen.path() == "/v2/_catalog" || seen.header("authorization").is_none()));
    assert_eq!(search(&server.host(), "", "app", 25).await.unwrap_err().kind(), Kind::Unauthorized);
}

#[tokio::test]
async fn mirrors_stand_for_a_registry_that_is_not_to_be_asked_or_fails() {
    let lists = r#"{"repositories":["hub/team/app","hubs/app","app"]}"#;
    let (mirror, down) = (listing(Reply::new(404), lists).await, Server::start(|_| Reply::new(500)).await);
    let mirrors = |more: &str, of: &str| {
        format!("attempts = 1\n[host.\"{of}\"]\n{more}mirrors = [\"http://{}/hub\"]", mirror.host())
    };

    let only = search("registry.test", &mirrors("mirrors_only = true\n", "registry.test"), "app", 25).await.unwrap();
    let instead = search(&down.host(), &mirrors("", &down.host()), "app", 25).await.unwrap();

    assert_eq!(only.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["registry.test/team/app"]);
    assert_eq!(names(&instead), ["team/app"]);
    assert_eq!(mirror.count("GET /v2/_catalog?ns=registry.test"), 1);
    assert_eq!(mirror.count("GET /v1/search"), 0, "below a prefix it would find what is somebody else's");
}

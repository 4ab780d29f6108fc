//! Each answer of the server becomes the one error that callers decide by.

use serde_json::json;
use towline_cluster::port::{DEPLOYMENTS, DeleteOptions, Object, Patch, WriteOptions};

use super::server::{Reply, Server, status};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
    Get,
    Create,
    Replace,
    Patch,
    Delete,
}

async fn ask(server: &Server, ask: Ask) -> String {
    let cluster = server.cluster().await;
    let object = Object::new(DEPLOYMENTS, "shop", "web");
    let body = json!({ "metadata": { "name": "web" } });
    let write = WriteOptions::default();
    let asked = match ask {
        Ask::Get => cluster.get(&object).await,
        Ask::Create => cluster.create(DEPLOYMENTS, "shop", &body, &write).await,
        Ask::Replace => cluster.replace(&object, &body, &write).await,
        Ask::Patch => cluster.patch(&object, &Patch::Merge(body), &write).await,
        Ask::Delete => cluster.delete(&object, &DeleteOptions::default()).await.map(|()| json!(null)),
    };
    match asked {
        Ok(value) => format!("ok: {value}"),
        Err(error) => error.to_string().replace(&format!("127.0.0.1:{}", server.port), "SERVER"),
    }
}

async fn check(how: Ask, reply: Reply, expected: &str) {
    let server = Server::start({
        let reply = reply.clone();
        move |_, _| reply.clone()
    })
    .await;
    assert_eq!(ask(&server, how).await, expected, "{how:?} {reply:?}");
}

#[tokio::test(start_paused = true)]
async fn answers_keep_their_meaning() {
    let it = "Deployment web in namespace shop";
    check(Ask::Get, status(404, "NotFound", "x"), &format!("{it} not found")).await;
    check(Ask::Get, Reply::Text(404, "", "404 page not found".into()), &format!("{it} not found")).await;
    check(Ask::Create, status(409, "AlreadyExists", "x"), &format!("{it} already exists")).await;
    check(Ask::Create, status(409, "Conflict", "why"), &format!("{it} was changed by someone else: why"))
        .await;
    check(Ask::Patch, status(409, "Conflict", "why"), &format!("{it} was changed by someone else: why"))
        .await;
    check(Ask::Delete, status(409, "Conflict", "why"), &format!("{it} was changed by someone else: why"))
        .await;
    check(Ask::Replace, status(422, "Invalid", "why"), &format!("{it} is not accepted: why")).await;
    check(Ask::Create, status(400, "BadRequest", "why"), &format!("{it} is not accepted: why")).await;
    check(Ask::Create, status(413, "RequestEntityTooLarge", "why"), &format!("{it} is not accepted: why"))
        .await;
    for (how, verb) in [
        (Ask::Get, "get"),
        (Ask::Create, "create"),
        (Ask::Replace, "update"),
        (Ask::Patch, "patch"),
        (Ask::Delete, "delete"),
    ] {
        check(how, status(403, "Forbidden", "why"), &format!("not allowed to {verb} {it}: why")).await;
    }
    check(
        Ask::Get,
        status(401, "Unauthorized", "Unauthorized"),
        "the cluster http://SERVER does not accept these credentials: Unauthorized",
    )
    .await;
    check(Ask::Patch, status(405, "MethodNotAllowed", "no"), &format!("patch {it} failed with 405: no"))
        .await;
    check(
        Ask::Get,
        Reply::Text(302, "Location: /x\r\n", String::new()),
        &format!("get {it} failed with 302: Found"),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_missing_is_named() {
    let mut missing = status(404, "NotFound", "namespaces \"shop\" not found");
    if let Reply::Json(_, body) = &mut missing {
        body["details"] = json!({ "kind": "namespaces", "name": "shop" });
    }
    check(Ask::Create, missing, "Namespace shop not found").await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_taken_place_is_ambiguous() {
    let it = "Deployment web in namespace shop";
    let unclear = |verb: &str| format!("no answer to {verb} {it}: it may have taken place");
    check(Ask::Patch, status(504, "Timeout", "x"), &unclear("patch")).await;
    check(Ask::Create, status(500, "ServerTimeout", "x"), &unclear("create")).await;
    check(Ask::Replace, status(500, "InternalError", "etcdserver: request timed out"), &unclear("update"))
        .await;
    check(Ask::Delete, Reply::Text(502, "", "<html>bad gateway".into()), &unclear("delete")).await;
    check(Ask::Delete, Reply::Text(503, "", "upstream reset".into()), &unclear("delete")).await;
    check(Ask::Patch, Reply::Text(200, "", "<html>sign in here".into()), &unclear("patch")).await;
    check(Ask::Patch, Reply::Silence, &unclear("patch")).await;
    let webhook = "Internal error occurred: failed calling webhook \"x\": context deadline exceeded";
    check(
        Ask::Create,
        status(500, "InternalError", webhook),
        &format!("create {it} failed with 500: {webhook}"),
    )
    .await;
    check(Ask::Create, status(503, "ServiceUnavailable", "x"), &format!("create {it} failed with 503: x"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_servers_words_are_cut_and_cleaned() {
    let said = format!("a\u{1b}[2Jb\r\nc\u{202e}{}", "x".repeat(100_000));
    let server = Server::start(move |_, _| status(422, "Invalid", &said)).await;
    let error = ask(&server, Ask::Create).await;
    assert!(error.contains(": a[2Jb cxxx"), "{error}");
    assert!(error.len() < 2200 && !error.contains(char::is_control), "{error}");
}

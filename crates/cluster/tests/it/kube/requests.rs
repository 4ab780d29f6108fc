//! What the server gets to see.

use serde_json::{Value, json};
use towline_cluster::ClusterError;
use towline_cluster::port::{
    CONFIG_MAPS, DEPLOYMENTS, DeleteOptions, LEASES, LogOptions, Object, PODS, Patch, Right, Selection,
    WriteOptions,
};

use super::server::{End, Reply, Seen, Server};

fn well(_: &Seen, _: usize) -> Reply {
    Reply::Json(
        200,
        json!({ "kind": "Deployment", "metadata": { "resourceVersion": "7" }, "unknown": { "x": 1.50 } }),
    )
}

#[tokio::test(start_paused = true)]
async fn writes_name_their_manager_and_their_kind_of_change() {
    let server = Server::start(well).await;
    let cluster = server.cluster().await;
    let object = Object::new(DEPLOYMENTS, "shop", "web");
    let body = json!({ "metadata": { "name": "web", "resourceVersion": "6" }, "unknown": [1, 2.5, "é"] });
    let (write, dry_run) = (WriteOptions::default(), WriteOptions { dry_run: true });
    let stored = cluster.create(DEPLOYMENTS, "shop", &body, &write).await.unwrap();
    assert_eq!(stored["unknown"]["x"], json!(1.5));
    cluster.replace(&object, &body, &dry_run).await.unwrap();
    cluster.patch(&object, &Patch::Merge(body.clone()), &write).await.unwrap();
    let operations = json!([{ "op": "test", "path": "/metadata/uid", "value": "u" }]);
    cluster.patch(&object, &Patch::Json(operations.clone()), &dry_run).await.unwrap();

    let collection = "/apis/apps/v1/namespaces/shop/deployments";
    let expected = [
        ("POST", format!("{collection}?fieldManager=towline"), "application/json", &body),
        ("PUT", format!("{collection}/web?fieldManager=towline&dryRun=All"), "application/json", &body),
        ("PATCH", format!("{collection}/web?fieldManager=towline"), "application/merge-patch+json", &body),
        (
            "PATCH",
            format!("{collection}/web?fieldManager=towline&dryRun=All"),
            "application/json-patch+json",
            &operations,
        ),
    ];
    let seen = server.seen();
    assert_eq!(seen.len(), expected.len());
    for (seen, (method, uri, content_type, body)) in seen.iter().zip(expected) {
        assert_eq!((seen.method.as_str(), &seen.uri), (method, &uri));
        assert_eq!(seen.header("content-type"), Some(content_type));
        assert_eq!(&seen.json(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_says_on_what_condition() {
    let server = Server::start(well).await;
    let cluster = server.cluster().await;
    let object = Object::new(LEASES, "shop", "web");
    cluster.delete(&object, &DeleteOptions::default()).await.unwrap();
    let options = DeleteOptions {
        uid: Some("u".to_owned()),
        resource_version: Some("7".to_owned()),
        grace_period_seconds: Some(0),
    };
    cluster.delete(&object, &options).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].uri, "/apis/coordination.k8s.io/v1/namespaces/shop/leases/web");
    let plain = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
    assert_eq!(seen[0].json(), plain);
    let mut full = plain;
    full["preconditions"] = json!({ "uid": "u", "resourceVersion": "7" });
    full["gracePeriodSeconds"] = json!(0);
    assert_eq!(seen[1].json(), full);
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_elsewhere_are_not_sent() {
    let server = Server::start(well).await;
    let cluster = server.cluster().await;
    for (namespace, name) in [("shop", ""), ("shop", ".."), ("", "web"), ("..", "web")] {
        let object = Object::new(CONFIG_MAPS, namespace, name);
        let error = cluster.delete(&object, &DeleteOptions::default()).await.unwrap_err();
        assert!(matches!(error, ClusterError::Invalid { .. }), "{error:?}");
    }
    assert!(cluster.create(CONFIG_MAPS, "", &json!({}), &WriteOptions::default()).await.is_err());
    assert!(cluster.list(CONFIG_MAPS, Some(""), &Selection::default()).await.is_err());
    assert!(server.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rights_come_in_the_order_asked() {
    let server = Server::start(|seen, _| {
        let asked = seen.json()["spec"]["resourceAttributes"].clone();
        Reply::Json(
            201,
            json!({ "status": { "allowed": asked["verb"] == "get" && asked["namespace"] == "shop" } }),
        )
    })
    .await;
    let cluster = server.cluster().await;
    let verbs =
        ["get", "list", "get", "patch", "get", "get", "delete", "create", "get", "watch", "get", "list"];
    let right = |verb| Right { verb, group: "apps", resource: "deployments", subresource: "scale" };
    let rights: Vec<_> = verbs.into_iter().map(right).collect();
    let expected: Vec<_> = verbs.iter().map(|verb| *verb == "get").collect();
    assert_eq!(cluster.can("shop", &rights).await.unwrap(), expected);
    assert_eq!(cluster.can("shop", &[]).await.unwrap(), Vec::<bool>::new());
    let seen = server.seen();
    assert_eq!(seen.len(), verbs.len());
    assert_eq!(seen[0].uri, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
    let attributes = &seen[0].json()["spec"]["resourceAttributes"];
    assert_eq!((&attributes["group"], &attributes["subresource"]), (&json!("apps"), &json!("scale")));
}

fn page(names: &[&str], more: &str) -> Reply {
    let items: Vec<Value> = names.iter().map(|name| json!({ "metadata": { "name": name } })).collect();
    Reply::Json(200, json!({ "metadata": { "resourceVersion": "9", "continue": more }, "items": items }))
}

async fn list_names(
    script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
) -> (Vec<String>, Vec<String>) {
    let server = Server::start(script).await;
    let selection = Selection { name: None, labels: vec![("app".to_owned(), "web".to_owned())] };
    let items = server.cluster().await.list(DEPLOYMENTS, None, &selection).await.unwrap();
    assert!(
        items.iter().all(|item| item["kind"] == "Deployment" && item["apiVersion"] == "apps/v1"),
        "{items:?}"
    );
    let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    (names, server.seen().into_iter().map(|seen| seen.uri).collect())
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages() {
    let (names, uris) = list_names(|_, before| match before {
        0 => page(&["a", "b"], "t/1="),
        1 => page(&["c"], "t2"),
        _ => page(&["d"], ""),
    })
    .await;
    assert_eq!(names, ["a", "b", "c", "d"]);
    let first = "/apis/apps/v1/deployments?labelSelector=app%3Dweb&limit=500";
    assert_eq!(
        uris,
        [first.to_owned(), format!("{first}&continue=t%2F1%3D"), format!("{first}&continue=t2")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_pages_expired_is_read_at_once() {
    let (names, uris) = list_names(|_, before| match before {
        0 => page(&["a"], "t"),
        1 => super::server::status(410, "Expired", "too old"),
        _ => page(&["b", "c"], ""),
    })
    .await;
    assert_eq!(names, ["b", "c"]);
    assert_eq!(uris[2], "/apis/apps/v1/deployments?labelSelector=app%3Dweb");
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_ends() {
    let server = Server::start(|_, _| page(&[], "again")).await;
    let error = server.cluster().await.list(PODS, None, &Selection::default()).await.unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn logs_are_streamed_as_they_are() {
    use tokio::io::AsyncReadExt;

    let server = Server::start(|_, before| {
        let end = if before == 0 { End::Well } else { End::Broken };
        Reply::Stream(vec!["one".to_owned(), "\u{1b}[1mtwo".to_owned()], end)
    })
    .await;
    let cluster = server.cluster().await;
    let options = LogOptions { follow: true, tail: Some(3), previous: true };
    let mut text = String::new();
    cluster.logs("shop", "web-1", "app", &options).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one\n\u{1b}[1mtwo\n");
    let seen = &server.seen()[0];
    let path = "/api/v1/namespaces/shop/pods/web-1/log";
    assert_eq!(seen.uri, format!("{path}?container=app&follow=true&previous=true&tailLines=3"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));

    let mut broken = cluster.logs("shop", "web-1", "app", &LogOptions::default()).await.unwrap();
    broken.read_to_string(&mut text).await.unwrap_err();
}

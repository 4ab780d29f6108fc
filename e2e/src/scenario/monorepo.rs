//! The example of a repository with several services, on a real cluster.

use towline_cluster::port::{DEPLOYMENTS, Object, PERSISTENT_VOLUME_CLAIMS};

use crate::adapter::Adapter;
use crate::http;
use crate::kube::KubeAdapter;
use crate::program;
use crate::project::Project;
use crate::scenario::edits::in_container;
use crate::snapshot::Snapshot;
use crate::towline::Towline;
use crate::variables;
use crate::waiting::{self, is_settled};

/// Works on one service: its folder and the shared one are synced, the volume inside is left alone.
pub async fn one_of_its_services(adapter: &KubeAdapter) {
    let example = program::tree().join("examples/monorepo");
    let text = std::fs::read_to_string(example.join("k8s.yml")).expect("the example is there");
    let objects =
        towline_manifest::objects(&text.replace("image: busybox", &format!("image: {}", variables::image())));
    adapter.apply(&objects.expect("the example is YAML")).await;
    for name in ["shop", "stock"] {
        waiting::object(adapter, DEPLOYMENTS, name, is_settled).await;
    }
    let claim = Object::new(PERSISTENT_VOLUME_CLAIMS, adapter.namespace(), "shop-uploads");
    let uploads = adapter.cluster().get(&claim).await.unwrap();
    let before = Snapshot::of(adapter).await;

    let project = Project::new();
    project.copy(&example);
    let port = http::free_port().await;
    let manifest = project.read(".okteto/okteto.yml").expect("the example has a manifest");
    assert!(manifest.contains("- 8080:8080"), "{manifest}");
    let stock = http::free_port().await;
    let manifest = manifest.replace("- 8080:8080", &format!("- {port}:8080"));
    project.write(".okteto/okteto.yml", manifest.replace("- 8081:stock", &format!("- {stock}:stock")));
    project.write("apps/shop/uploads/mine.txt", "of the laptop\n");

    let towline = Towline::new(adapter, &project);
    let several = towline.run(&["up"]).await.expect(2);
    let error = several.log.error().to_string();
    assert!(error.contains("shop") && error.contains("stock"), "{error}");

    let mut up = towline.start(&["up", "shop"]);
    up.until_state("ready").await;
    let page = project.read("apps/shop/public/index.html").expect("the example has a page");
    http::reads(port, "/", &page).await;
    http::reads(stock, "/", "the stock, in production\n").await;
    project.write("apps/shop/public/index.html", "changed\n");
    http::reads(port, "/", "changed\n").await;
    // The claim's files are the cluster's, the laptop's of that name are the laptop's.
    in_container(
        &towline,
        "ls /repo/apps/shop/uploads; test -e /repo/k8s.yml || echo ignored",
        "seed.txt\nignored\n",
    )
    .await;
    assert_eq!(project.read("apps/shop/uploads/mine.txt").as_deref(), Some("of the laptop\n"));
    assert_eq!(project.read("apps/shop/uploads/seed.txt"), None);
    in_container(&towline, "echo \"$SHOP_NAME $API_TOKEN\"", "the shop example-token\n").await;
    in_container(&towline, "echo kept >/repo/apps/shop/uploads/upload.txt", "").await;

    towline.run(&["down", "shop"]).await.expect(0);
    up.ended().await;
    before.expect_unchanged(adapter).await;
    let after = adapter.cluster().get(&claim).await.unwrap();
    assert_eq!(uploads["metadata"]["uid"], after["metadata"]["uid"], "the claim is the same");
}

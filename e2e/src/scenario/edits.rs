//! Edits on both sides of a session.

use std::time::Duration;

use crate::http;
use crate::project::Project;
use crate::towline::{Running, Towline};

/// How often an edit is measured.
const EDITS: u32 = 5;
/// How long the quickest of them may take until the container serves it.
const QUICK: Duration = Duration::from_secs(1);

/// Edits the page and measures how long it takes until the container serves it.
pub async fn of_a_page(project: &Project, port: u16) {
    let mut times = Vec::new();
    for edit in 0..EDITS {
        let text = format!("edit {edit}\n");
        project.write("index.html", &text);
        times.push(http::reads(port, "/", &text).await);
    }
    times.sort();
    eprintln!("an edit was served after {times:?}");
    // The machine may be busy with other things for a moment, but not for all of them.
    assert!(times[0] < QUICK, "{times:?}");
}

/// New files, deletes, renames and moved folders, from either side.
pub async fn on_both_sides(towline: &Towline, project: &Project, up: &mut Running) {
    // From the laptop.
    project.write("src/lib/one.txt", "one\n").write("src/lib/two.txt", "two\n");
    up.until_synced("remote", "src/lib/two.txt", false).await;
    in_container(towline, "cat src/lib/one.txt src/lib/two.txt", "one\ntwo\n").await;
    project.remove("src/lib/two.txt");
    up.until_synced("remote", "src/lib/two.txt", true).await;
    project.rename("src/lib/one.txt", "src/lib/first.txt");
    up.until_synced("remote", "src/lib/first.txt", false).await;
    project.rename("src", "source");
    up.until_all_synced("remote", &[("source/lib/first.txt", false), ("src", true)]).await;
    in_container(towline, "find . -name '*.txt'; ls -d src 2>/dev/null", "./source/lib/first.txt\n").await;

    // From the container.
    in_container(
        towline,
        "mkdir -p made/deep && echo new >made/deep/a.txt && echo more >>source/lib/first.txt",
        "",
    )
    .await;
    up.until_synced("local", "made/deep/a.txt", false).await;
    until_reads(project, "made/deep/a.txt", Some("new\n")).await;
    until_reads(project, "source/lib/first.txt", Some("one\nmore\n")).await;
    in_container(towline, "mv made/deep/a.txt made/b.txt && mv made built && rm source/lib/first.txt", "")
        .await;
    up.until_synced("local", "built/b.txt", false).await;
    until_reads(project, "built/b.txt", Some("new\n")).await;
    until_reads(project, "made/deep/a.txt", None).await;
    until_reads(project, "source/lib/first.txt", None).await;
    assert!(project.path("source/lib").is_dir(), "a folder stays when its last file goes");
    assert_eq!(
        project.read("okteto.yml").map(|text| text.starts_with("dev:")),
        Some(true),
        "what is ignored stays"
    );
}

/// Runs a script in the container and compares what it writes.
pub async fn in_container(towline: &Towline, script: &str, wanted: &str) {
    let done = towline.run(&["exec", "--", "sh", "-c", &format!("{script}\nexit 0")]).await.expect(0);
    assert_eq!(done.stdout, wanted, "{script}: {}", done.stderr);
}

/// Waits until a file on this machine reads so, or is gone.
pub async fn until_reads(project: &Project, path: &str, wanted: Option<&str>) {
    crate::waiting::eventually(&format!("{path} reads {wanted:?}"), async || {
        let found = project.read(path);
        if found.as_deref() == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}

//! What a user is asked before a manifest is followed.

use towline_manifest::{Parsed, privileges};

use crate::disk::{MemoryDisk, lines, read, read_at, repository};

const USER: [(&str, &str); 4] =
    [("AWS_SECRET_ACCESS_KEY", "s"), ("NPM_TOKEN", "t"), ("USER", "me"), ("HOME", "/home/me")];

fn read_as_user(text: &str, disk: &MemoryDisk) -> Parsed {
    read_at("/repo/okteto.yml", text, disk, &USER)
}

#[test]
fn credential_like_variables_are_listed_wherever_they_go() {
    let disk = repository().with(
        "/repo/a.env",
        "X=${AWS_SECRET_ACCESS_KEY}\nNPM_TOKEN\nAWS_SECRET_ACCESS_KEY=\nY='$NPM_TOKEN'\n",
    );
    let text = "dev:\n  api:\n    image: x:${NPM_TOKEN}\n    environment: [NPM_TOKEN, 'A=$AWS_SECRET_ACCESS_KEY', \
                'B=$USER', 'C=${NOPE_TOKEN:-d}', 'D=${NPM_TOKEN+set}']\n    envFiles: a.env\n";
    let parsed = read_as_user(text, &disk);
    let listed: Vec<_> =
        parsed.sensitive.iter().map(|s| format!("{} {} {}", s.variable, s.path, s.file)).collect();
    assert_eq!(
        listed,
        [
            "NPM_TOKEN dev.api.image okteto.yml",
            "AWS_SECRET_ACCESS_KEY dev.api.envFiles /repo/a.env",
            "NPM_TOKEN dev.api.envFiles /repo/a.env",
            "AWS_SECRET_ACCESS_KEY dev.api.envFiles /repo/a.env",
            "NPM_TOKEN dev.api.environment[0] okteto.yml",
            "AWS_SECRET_ACCESS_KEY dev.api.environment[1] okteto.yml",
        ]
    );
    let span = parsed.sensitive[5].span;
    assert_eq!(&text[span.start..span.end], "$AWS_SECRET_ACCESS_KEY");
    assert!(parsed.needs_consent());
}

#[test]
fn paths_that_lead_out_are_listed_in_any_spelling() {
    let disk = repository().with_link("/repo/link", "/home/me/.ssh");
    for (fields, outside) in [
        ("{sync: ['src:/app']}", None),
        ("{sync: ['sub/../src:/app']}", None),
        ("{sync: ['/repo/src:/app']}", None),
        ("{sync: ['../lib:/app']}", Some("/lib")),
        ("{sync: ['./../lib:/app']}", Some("/lib")),
        ("{sync: ['sub/../../lib:/app']}", Some("/lib")),
        ("{sync: ['/lib:/app']}", Some("/lib")),
        ("{sync: ['~/.ssh:/app']}", Some("/home/me/.ssh")),
        ("{sync: ['~:/app']}", Some("/home/me")),
        ("{sync: ['$HOME:/app']}", Some("/home/me")),
        ("{sync: ['${HOME}/.ssh:/app']}", Some("/home/me/.ssh")),
        ("{sync: ['link:/app']}", Some("/home/me/.ssh")),
        ("{sync: ['.:/app'], secrets: ['~/.ssh/id_rsa:/x']}", Some("/home/me/.ssh/id_rsa")),
        ("{sync: ['.:/app'], secrets: ['link/id_rsa:/x']}", Some("/home/me/.ssh/id_rsa")),
        ("{sync: ['.:/app'], envFiles: ../lib/code.js}", Some("/lib/code.js")),
    ] {
        let parsed = read_as_user(&format!("dev:\n  api: {fields}\n"), &disk);
        assert!(!parsed.problems.has_errors(), "{fields}\n{}", lines(&parsed));
        let found: Vec<_> = parsed.outside.iter().map(|o| o.local.to_str().unwrap()).collect();
        assert_eq!(found, outside.into_iter().collect::<Vec<_>>(), "{fields}");
        assert_eq!(parsed.needs_consent(), outside.is_some(), "{fields}");
    }
}

#[test]
fn an_env_file_that_leads_out_is_asked_about() {
    let text = "dev: {api: {image: 'a:$TAG'}}\n";
    let inside = read_as_user(text, &repository().with("/repo/.env", "TAG=1\n"));
    assert_eq!((inside.outside.len(), inside.needs_consent()), (0, false));
    let disk = repository().with("/home/me/notes", "TAG=1\n").with_link("/repo/.env", "/home/me/notes");
    let outside = read_as_user(text, &disk);
    assert_eq!(outside.outside[0].local.to_str(), Some("/home/me/notes"));
    assert_eq!(outside.outside[0].path, ".env");
    assert_ne!(outside.trust_hash, inside.trust_hash);
}

#[test]
fn privileges_are_sentences() {
    let of = |fields: &str| {
        let parsed = read(&format!("dev:\n  api: {fields}\n"));
        privileges(&parsed.manifest.unwrap().dev["api"])
    };
    assert_eq!(of("{}"), [""; 0]);
    assert_eq!(
        of("{securityContext: {runAsUser: 1000, runAsNonRoot: true, capabilities: {drop: [ALL]}}}"),
        [""; 0]
    );
    insta::assert_snapshot!(
        of("{image: evil/x, serviceAccount: admin, priorityClassName: high, reverse: ['9000:5432'], \
            tolerations: [{operator: Exists}], securityContext: {runAsUser: 0, runAsGroup: 0, fsGroup: 0, \
            runAsNonRoot: false, allowPrivilegeEscalation: true, readOnlyRootFilesystem: false, \
            capabilities: {add: [SYS_PTRACE, NET_ADMIN]}}}")
        .join("\n"),
        @"
    runs as root (securityContext.runAsUser: 0)
    runs in root's group (securityContext.runAsGroup: 0)
    gives volumes to root's group (securityContext.fsGroup: 0)
    lifts the ban on root (securityContext.runAsNonRoot: false)
    allows programs to gain rights (securityContext.allowPrivilegeEscalation: true)
    makes the image's files writable (securityContext.readOnlyRootFilesystem: false)
    adds capabilities: SYS_PTRACE, NET_ADMIN (securityContext.capabilities.add)
    runs another image: evil/x
    acts as the service account admin
    is scheduled with the priority class high
    may run on nodes that are tainted: every taint
    reaches port 5432 of this machine from the pod's port 9000 (reverse)
    "
    );
}

#[test]
fn the_hash_follows_the_meaning_not_the_spelling() {
    let hash = |text: &str| read_as_user(text, &repository()).trust_hash;
    let base = hash("dev:\n  api:\n    image: a\n    sync: ['.:/app']\n");
    assert_eq!(base.len(), 64);
    for same in [
        "# a comment\ndev: {api: {sync: ['.:/app'], image: a}}\n",
        "dev:\n  api:\n    sync:\n      - '.:/app' # here\n    image: a\n",
    ] {
        assert_eq!(hash(same), base, "{same}");
    }
    for other in [
        "dev: {api: {sync: ['.:/app'], image: b}}\n",
        "dev: {api: {sync: ['.:/app', 'src:/a'], image: a}}\n",
        "dev: {api: {sync: ['.:/app'], image: a, reverse: ['1:2']}}\n",
        "dev: {other: {sync: ['.:/app'], image: a}}\n",
    ] {
        assert_ne!(hash(other), base, "{other}");
    }
    let of = |value: &str| {
        let text = "dev: {api: {image: '$TAG'}}\n";
        read_at("/repo/okteto.yml", text, &repository(), &[("TAG", value)]).trust_hash
    };
    assert_eq!(of("1"), of("2"), "the user's own environment is no part of it");
}

#[test]
fn the_hash_follows_env_files_and_links() {
    let text = "dev: {api: {sync: ['link:/app'], envFiles: a.env}}\n";
    let hash = |env: &str, target: &str| {
        let disk = repository().with("/repo/a.env", env).with_link("/repo/link", target);
        read_as_user(text, &disk).trust_hash
    };
    let base = hash("A=1\n", "/lib");
    assert_eq!(hash("A=2\n", "/lib"), base, "a value that takes nothing of the user's");
    assert_ne!(hash("A=$AWS_SECRET_ACCESS_KEY\n", "/lib"), base);
    assert_ne!(hash("AWS_SECRET_ACCESS_KEY=\n", "/lib"), base);
    assert_ne!(hash("A=1\n", "/home/me/.ssh"), base);
    let unset = hash("UNSET_TOKEN\n", "/lib");
    assert_ne!(unset, base, "a variable that isn't set here may be set where CI runs");
}

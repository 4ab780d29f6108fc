//! This machine: the manifest, the synced folders, watches and ports.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use towline_ignore::{IGNORE_FILE, Rules};

use super::left_overs::{self, SshEntry};
use super::{Facts, Outcome, fail, pass, unknown, warn};
use crate::request::{Folder, Forward};

/// Entries of a folder that are looked at; more are told as "at least".
const MAX_ENTRIES: u64 = 300_000;
/// A folder with so many files is worth a thought.
const MANY_FILES: u64 = 20_000;
/// Names of what tools make anew, in whatever folder they stand.
const HEAVY: &[&str] = &[
    ".git",
    "node_modules",
    ".next",
    ".turbo",
    ".nuxt",
    "dist",
    "build",
    "target",
    "coverage",
    ".pnpm-store",
    ".venv",
    "venv",
    "__pycache__",
    ".gradle",
    ".terraform",
    "vendor",
];
/// How many of a list are told.
const TOLD: usize = 8;

/// Where things are on this machine.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The user's home.
    pub user_home: Option<PathBuf>,
    /// The manifest.
    pub manifest: Option<PathBuf>,
    /// What the manifest's reading came to: errors, then warnings, a line each.
    pub problems: (Vec<String>, Vec<String>),
    /// What the manifest asks for that the workload may not have.
    pub privileges: Vec<String>,
}

/// What was seen of this machine.
#[derive(Debug, Clone, Default)]
pub struct Laptop {
    pub(super) manifests: Vec<String>,
    pub(super) problems: (Vec<String>, Vec<String>),
    pub(super) privileges: Vec<String>,
    pub(super) folders: Vec<FolderSeen>,
    /// How many folders one user may watch; none where this system has no such number.
    pub(super) watches: Option<u64>,
    /// Each local port that is wanted, and whether it is free.
    pub(super) ports: Vec<(u16, bool)>,
    pub(super) ssh: Vec<SshEntry>,
    pub(super) processes: Vec<(String, u32)>,
}

/// One synced folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FolderSeen {
    pub(super) local: String,
    /// Whether an ignore file was found for it.
    pub(super) has_rules: bool,
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) bytes: u64,
    /// Whether there is more than was looked at.
    pub(super) more: bool,
    /// Folders that tools make anew and that are not ignored, each with its files.
    pub(super) heavy: Vec<(String, u64)>,
    /// Files that look like credentials and are not ignored.
    pub(super) credentials: Vec<String>,
    /// Names that are one on a system that ignores case.
    pub(super) collisions: Vec<(String, String)>,
    /// Other programs that sync it.
    pub(super) syncers: Vec<String>,
}

impl Laptop {
    /// Looks at this machine. Reads names and sizes, no contents but those of configuration.
    pub fn look(places: &Places, folders: &[Folder], forwards: &[Forward]) -> Self {
        let root = places.manifest.as_deref().map(towline_manifest::project_root);
        let home = places.user_home.as_deref();
        let config = home.and_then(|home| fs::read_to_string(home.join(".ssh/config")).ok());
        let port = |forward: &Forward| {
            (forward.local, TcpListener::bind((forward.interface, forward.local)).is_ok())
        };
        Self {
            manifests: root.map(|root| manifests(&root)).unwrap_or_default(),
            problems: places.problems.clone(),
            privileges: places.privileges.clone(),
            folders: folders.iter().map(folder).collect(),
            watches: fs::read_to_string("/proc/sys/fs/inotify/max_user_watches")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            ports: forwards.iter().map(port).collect(),
            ssh: left_overs::ssh_entries(&config.unwrap_or_default()),
            processes: home
                .map(|home| left_overs::running(&home.join(".okteto"), program_of))
                .unwrap_or_default(),
        }
    }
}

/// Returns the program of a running process, if this user may see it.
fn program_of(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = line.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(program).into_owned())
}

fn manifests(root: &Path) -> Vec<String> {
    let names = towline_manifest::candidates();
    names.into_iter().filter(|name| root.join(name).is_file()).map(ToString::to_string).collect()
}

fn folder(folder: &Folder) -> FolderSeen {
    let mut seen = FolderSeen {
        local: folder.local.display().to_string(),
        has_rules: !folder.ignore_files.is_empty(),
        syncers: towline_sync::folders::other_syncers(&folder.local)
            .into_iter()
            .map(|(syncer, mark)| format!("{syncer} (it left {mark})"))
            .collect(),
        ..FolderSeen::default()
    };
    // Rules that can't be read stop `up` with their place; here they are none.
    let rules = Rules::from_lines(&folder.ignore).unwrap_or_else(|_| Rules::empty());
    walk(&folder.local, "", &rules, None, &mut seen);
    seen.heavy.retain(|(_, files)| *files > 0);
    seen.heavy.sort_by_key(|(_, files)| std::cmp::Reverse(*files));
    seen
}

/// Counts what is not ignored. `heavy` is the index of the tool's folder that this one is in.
fn walk(root: &Path, path: &str, rules: &Rules, heavy: Option<usize>, seen: &mut FolderSeen) {
    let here = rules.folder(path);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for entry in fs::read_dir(root.join(path)).into_iter().flatten().flatten() {
        if seen.files + seen.folders >= MAX_ENTRIES {
            seen.more = true;
            return;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let decision = here.decide(&name);
        let Ok(kind) = entry.file_type() else { continue };
        let full = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if decision.ignored && (decision.skip_dir || !kind.is_dir()) {
            continue;
        }
        if let Some(other) = names.insert(name.to_lowercase(), full.clone()) {
            seen.collisions.push((other, full.clone()));
        }
        if kind.is_dir() {
            seen.folders += 1;
            let heavy = heavy.or_else(|| {
                HEAVY.contains(&name.as_str()).then(|| {
                    seen.heavy.push((full.clone(), 0));
                    seen.heavy.len() - 1
                })
            });
            walk(root, &full, rules, heavy, seen);
        } else if !decision.ignored {
            seen.files += 1;
            seen.bytes += entry.metadata().map_or(0, |meta| meta.len());
            if let Some(heavy) = heavy {
                seen.heavy[heavy].1 += 1;
            } else if is_credential(&name) {
                seen.credentials.push(full);
            }
        }
    }
}

/// Tells whether a file's name says that it holds a credential.
fn is_credential(name: &str) -> bool {
    let sample = ["example", "sample", "template", "dist"].iter().any(|word| name.contains(word));
    let env = name == ".env" || name.starts_with(".env.");
    let key = [".pem", ".key", ".p12", ".pfx", ".jks"].iter().any(|end| name.ends_with(end));
    let known =
        ["id_rsa", "id_ed25519", "id_ecdsa", ".netrc", ".npmrc", ".pypirc", "kubeconfig", "credentials.json"];
    !sample && (env || key || known.contains(&name))
}

pub(super) fn manifest(facts: &Facts) -> Vec<Outcome> {
    let laptop = &facts.laptop;
    let (errors, warnings) = &laptop.problems;
    let mut found: Vec<Outcome> =
        errors.iter().map(|error| fail(error.clone(), "see it at its place: towline validate")).collect();
    found.extend(
        warnings.iter().map(|warning| warn(warning.clone(), "see it at its place: towline validate")),
    );
    match laptop.manifests.as_slice() {
        [first, _, ..] => found.push(warn(
            format!("there are several manifests: {}; {first} counts", laptop.manifests.join(", ")),
            "keep one, or name it: -f FILE",
        )),
        [_] if found.is_empty() => found.push(pass("there is one manifest, and nothing is wrong with it")),
        [] if facts.dev.is_none() && found.is_empty() => {
            found.push(unknown("there is no manifest here: the workload alone was looked at"));
        }
        _ => {}
    }
    found
}

pub(super) fn privileges(facts: &Facts) -> Vec<Outcome> {
    let of = |words: &String| {
        warn(format!("the dev container {words}"), "leave it out of the manifest unless it is needed")
    };
    facts.laptop.privileges.iter().map(of).collect()
}

pub(super) fn ignore_place(facts: &Facts) -> Vec<Outcome> {
    let of = |folder: &FolderSeen| {
        if folder.has_rules {
            pass(format!("{} has its ignore rules", folder.local))
        } else {
            warn(
                format!("{} has no {IGNORE_FILE}: everything in it is synced", folder.local),
                format!("write {}/{IGNORE_FILE}; towline init proposes one", folder.local),
            )
        }
    };
    facts.laptop.folders.iter().map(of).collect()
}

pub(super) fn ignore_cost(facts: &Facts) -> Vec<Outcome> {
    let of = |folder: &FolderSeen| {
        let at_least = if folder.more { "at least " } else { "" };
        let (files, megabytes) = (folder.files, folder.bytes / 1_000_000);
        let seen = format!("{}: {at_least}{files} files, {megabytes} MB would be synced", folder.local);
        if !folder.heavy.is_empty() {
            let list: Vec<String> = folder
                .heavy
                .iter()
                .take(TOLD)
                .map(|(name, files)| format!("{name} ({files} files)"))
                .collect();
            return warn(
                format!("{seen}, among them what tools make anew: {}", list.join(", ")),
                format!("add them to {}/{IGNORE_FILE}", folder.local),
            );
        }
        if files > MANY_FILES || folder.more {
            return warn(
                seen,
                format!("are all of them needed in the pod? see {}/{IGNORE_FILE}", folder.local),
            );
        }
        pass(seen)
    };
    facts.laptop.folders.iter().map(of).collect()
}

pub(super) fn ignore_secrets(facts: &Facts) -> Vec<Outcome> {
    let of = |folder: &FolderSeen| {
        if folder.credentials.is_empty() {
            return pass(format!(
                "nothing that looks like a credential would be synced from {}",
                folder.local
            ));
        }
        let list = folder.credentials.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
        warn(
            format!("files that look like credentials would be synced from {}: {list}", folder.local),
            format!(
                "add them to {}/{IGNORE_FILE}; bring in what the pod needs with the manifest's secrets",
                folder.local
            ),
        )
    };
    facts.laptop.folders.iter().map(of).collect()
}

pub(super) fn names(facts: &Facts) -> Vec<Outcome> {
    let of = |folder: &FolderSeen| {
        let (one, other) = folder.collisions.first()?;
        Some(warn(
            format!("{one} and {other} of {} are one name where case does not count", folder.local),
            "rename one of them, or sync it from Linux only",
        ))
    };
    facts.laptop.folders.iter().filter_map(of).collect()
}

pub(super) fn inotify(facts: &Facts) -> Vec<Outcome> {
    let folders: u64 = facts.laptop.folders.iter().map(|folder| folder.folders + 1).sum();
    if facts.laptop.folders.is_empty() {
        return Vec::new();
    }
    vec![match facts.laptop.watches {
        None => unknown("this system does not say how many folders may be watched"),
        Some(limit) if folders > limit => warn(
            format!(
                "{folders} folders are to be watched, and {limit} may be: changes in the others are seen by looking again"
            ),
            format!("sudo sysctl fs.inotify.max_user_watches={}", (folders * 2).next_power_of_two()),
        ),
        Some(limit) => pass(format!("{folders} folders are to be watched, {limit} may be")),
    }]
}

pub(super) fn ports(facts: &Facts) -> Vec<Outcome> {
    let mine = facts.session.as_ref().is_some_and(|session| session.mine && session.alive);
    let of = |(port, free): &(u16, bool)| match (free, mine) {
        (true, _) => pass(format!("port {port} of this machine is free")),
        (false, true) => pass(format!("port {port} of this machine is used, as your session does")),
        (false, false) => fail(
            format!("port {port} of this machine is in use"),
            format!(
                "find out by whom: ss -ltnp 'sport = :{port}'; or choose another in the manifest's forward"
            ),
        ),
    };
    facts.laptop.ports.iter().map(of).collect()
}

pub(super) fn syncers(facts: &Facts) -> Vec<Outcome> {
    let of = |folder: &FolderSeen| {
        if folder.syncers.is_empty() {
            return pass(format!("no other program is known to sync {}", folder.local));
        }
        warn(
            format!("{} seems to be synced by {} as well", folder.local, folder.syncers.join(", ")),
            "two programs that answer each other's changes never end: stop one of them for this folder",
        )
    };
    facts.laptop.folders.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::super::Verdict::{Fail, Pass, Unknown, Warn};
    use super::super::tests::expect;
    use super::*;

    fn with(folder: FolderSeen) -> Facts {
        let folder = FolderSeen { local: "/src".to_owned(), ..folder };
        Facts { laptop: Laptop { folders: vec![folder], ..Laptop::default() }, ..Facts::nothing("no") }
    }

    #[test]
    fn a_folder_is_counted_as_sync_would() {
        let temp = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1234").unwrap();
        };
        for path in [
            "a.txt",
            "A.txt",
            "node_modules/x/i.js",
            "node_modules/y.js",
            "skipped/z",
            ".env",
            "sub/id_rsa",
            ".env.example",
            "node_modules/cert.pem",
        ] {
            write(path);
        }
        let asked = Folder {
            local: temp.path().to_owned(),
            remote: "/app".to_owned(),
            ignore: vec!["/skipped".to_owned()],
            ignore_files: Vec::new(),
            rescan: Duration::from_secs(1),
        };
        let mut seen = folder(&asked);
        seen.credentials.sort();
        assert_eq!((seen.files, seen.folders, seen.bytes, seen.more), (8, 3, 32, false), "{seen:#?}");
        assert_eq!(seen.heavy, [("node_modules".to_owned(), 3)]);
        assert_eq!(seen.credentials, [".env", "sub/id_rsa"]);
        assert_eq!(seen.collisions.len(), 1);
        assert!(!seen.has_rules);
    }

    #[test]
    fn folders_are_judged() {
        expect(&ignore_place(&with(FolderSeen { has_rules: true, ..FolderSeen::default() })), Pass, "/src");
        expect(&ignore_place(&with(FolderSeen::default())), Warn, "towline init");
        expect(
            &ignore_cost(&with(FolderSeen { files: 10, bytes: 3_000_000, ..FolderSeen::default() })),
            Pass,
            "10 files, 3 MB",
        );
        let heavy = vec![("node_modules".to_owned(), 7)];
        expect(
            &ignore_cost(&with(FolderSeen { heavy, ..FolderSeen::default() })),
            Warn,
            "node_modules (7 files)",
        );
        expect(&ignore_cost(&with(FolderSeen { files: 20_001, ..FolderSeen::default() })), Warn, "20001");
        expect(&ignore_secrets(&with(FolderSeen::default())), Pass, "nothing");
        expect(
            &ignore_secrets(&with(FolderSeen {
                credentials: vec![".env".to_owned()],
                ..FolderSeen::default()
            })),
            Warn,
            ".env",
        );
        let collisions = vec![("a".to_owned(), "A".to_owned())];
        expect(&names(&with(FolderSeen { collisions, ..FolderSeen::default() })), Warn, "a and A");
        assert!(names(&with(FolderSeen::default())).is_empty());
        let syncers = vec!["Syncthing (it left .stfolder)".to_owned()];
        expect(&syncers_of(syncers), Warn, "Syncthing");
        expect(&syncers_of(Vec::new()), Pass, "no other");
    }

    fn syncers_of(syncers: Vec<String>) -> Vec<Outcome> {
        super::syncers(&with(FolderSeen { syncers, ..FolderSeen::default() }))
    }

    #[test]
    fn watches_are_counted() {
        let check = |folders: u64, limit: Option<u64>, verdict, words: &str| {
            let mut facts = with(FolderSeen { folders, ..FolderSeen::default() });
            facts.laptop.watches = limit;
            expect(&inotify(&facts), verdict, words);
        };
        check(9, Some(10), Pass, "10 folders");
        check(10, Some(10), Warn, "max_user_watches=32");
        check(10, None, Unknown, "does not say");
    }

    #[test]
    fn ports_in_use_are_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = taken.local_addr().unwrap().port();
        let forward = Forward {
            interface: Ipv4Addr::LOCALHOST.into(),
            local,
            host: None,
            labels: BTreeMap::new(),
            port: 80,
        };
        let look = || Laptop::look(&Places::default(), &[], std::slice::from_ref(&forward));
        let facts = |laptop| Facts { laptop, ..Facts::nothing("no") };
        expect(&ports(&facts(look())), Fail, &format!("sport = :{local}"));
        drop(taken);
        expect(&ports(&facts(look())), Pass, "is free");
    }

    #[test]
    fn manifests_and_what_is_wrong_with_them() {
        let facts = |manifests: &[&str], errors: &[&str], warnings: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let laptop = Laptop {
                manifests: own(manifests),
                problems: (own(errors), own(warnings)),
                ..Laptop::default()
            };
            Facts { laptop, ..Facts::nothing("no") }
        };
        expect(&manifest(&facts(&["okteto.yml"], &[], &[])), Pass, "one manifest");
        expect(&manifest(&facts(&["okteto.yml", "okteto.yaml"], &[], &[])), Warn, "okteto.yml counts");
        expect(&manifest(&facts(&["okteto.yml"], &["bad"], &["odd"])), Fail, "bad");
        expect(&manifest(&facts(&["okteto.yml"], &[], &["odd"])), Warn, "odd");
        expect(&manifest(&facts(&[], &[], &[])), Unknown, "no manifest");
    }
}

//! From the manifest's dev service to what `up` is asked to do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use towline_ignore::IGNORE_FILE;
pub use towline_ignore::{Decision, Rules};
use towline_manifest::{
    Dev, Forward as ManifestForward, ForwardTarget, Hook, Lifecycle as ManifestLifecycle, Manifest, Mode,
    PersistentVolume, Resources, SecurityContext,
};
use towline_patcher::{Agent, DevPlan, External, Hook as PlannedHook, Kept, Lifecycle, Probes, Storage, Way};

use crate::context::AgentSource;
use crate::controllers::truce::Gitops;
use crate::error::SessionError;
use crate::request::{Folder, Forward, Hybrid, OnChange, Reverse, UpRequest, Workload};
use crate::storage::{Content, MAX_SECRET_BYTES, SecretFile};

/// The size of a claim that the manifest gives none, as Okteto's users expect.
const CLAIM_SIZE: &str = "5Gi";

/// What a manifest does not say.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Runs instead of the manifest's command.
    pub command: Option<Vec<String>>,
    /// Variables for the command alone, like the user's `TERM`.
    pub process_environment: Vec<(String, String)>,
    /// The agent.
    pub agent: AgentSource,
    /// Takes the workload from whoever holds it.
    pub takeover: bool,
    /// What to do about controllers that would undo the session.
    pub gitops: Gitops,
    /// The way in; the manifest's, then the kind's own when `None`.
    pub way: Option<Way>,
    /// What is done when somebody else changes a template that is changed in place.
    pub on_change: OnChange,
    /// For a command that runs on this machine.
    pub here: Here,
}

/// What a command needs that runs on this machine.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// The user's shell, where the manifest names no command.
    pub shell: Option<String>,
    /// As in [`Hybrid::path`].
    pub path: OsString,
    /// As in [`Hybrid::helper`].
    pub helper: PathBuf,
}

/// Makes the request for one dev service. Reads the ignore files; `manifest_path` is where the manifest lies.
pub fn request(
    manifest: &Manifest,
    dev: &Dev,
    manifest_path: &Path,
    choices: Choices,
) -> Result<UpRequest, SessionError> {
    let forwards = manifest.forwards(dev).map(|one| forward(dev, one)).collect();
    of(dev, forwards, manifest_path, choices)
}

/// Makes the requests for the `services` of a dev service. Of the choices, the way in, the command and what belongs to a
/// terminal are not theirs.
pub fn services(dev: &Dev, manifest_path: &Path, choices: &Choices) -> Result<Vec<UpRequest>, SessionError> {
    let of_service = |service: &Dev| {
        let refused = |why: &str, hint: &str| SessionError::Refused {
            what: format!("{} of the services of {}", service.name, dev.name),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        if service.replicas.is_some_and(|replicas| replicas != 1) {
            let why = "its dev container is one pod, and the manifest asks for another number";
            return Err(refused(why, "leave replicas out: down brings all of the workload's back"));
        }
        if service.command.is_empty() && !service.args.is_empty() {
            return Err(refused("it has args and no command", "give it the command, too"));
        }
        let choices =
            Choices { command: None, process_environment: Vec::new(), way: None, ..choices.clone() };
        // Only what has the terminal can run on this machine.
        let service = Dev { mode: Mode::Sync, ..service.clone() };
        let mut request = of(&service, Vec::new(), manifest_path, choices)?;
        request.main = Some(dev.name.clone());
        (request.patience, request.answer) = (dev.timeout.resources, dev.timeout.default);
        request.plan.agent.image = dev.init_container.as_ref().and_then(|init| init.image.clone());
        Ok(request)
    };
    dev.services.iter().map(of_service).collect()
}

fn of(
    dev: &Dev,
    forwards: Vec<Forward>,
    manifest_path: &Path,
    choices: Choices,
) -> Result<UpRequest, SessionError> {
    let folders = dev
        .sync
        .folders
        .iter()
        .map(|folder| {
            let (rules, ignore_files) = ignore_rules(manifest_path, &folder.local)?;
            let (local, remote) = (folder.local.clone(), folder.remote.clone());
            let rescan = dev.sync.rescan_interval;
            Ok(Folder { local, remote, ignore: rules.lines(), ignore_files, rescan })
        })
        .collect::<Result<Vec<_>, SessionError>>()?;
    let hybrid = hybrid(dev, &choices.here);
    let dev = &*for_the_container(dev);
    let workload = if dev.selector.is_empty() {
        Workload::Name(dev.workload.clone())
    } else {
        Workload::Labels(dev.selector.clone())
    };
    Ok(UpRequest {
        workload,
        way: choices.way.or_else(|| dev.in_place.map(|yes| if yes { Way::InPlace } else { Way::Swap })),
        on_change: choices.on_change,
        plan: plan(dev),
        folders,
        command: choices.command.unwrap_or_else(|| match dev.command_line() {
            none if none.is_empty() && hybrid.is_some() => {
                vec![choices.here.shell.clone().unwrap_or_else(|| "sh".to_owned())]
            }
            command => command,
        }),
        main: None,
        hybrid,
        autocreate: dev.autocreate,
        process_environment: choices.process_environment,
        forwards,
        reverses: dev
            .reverse
            .iter()
            .map(|reverse| Reverse { remote: reverse.remote, local: reverse.local })
            .collect(),
        claim: claim(dev),
        secrets: secrets(dev)?,
        patience: dev.timeout.resources,
        answer: dev.timeout.default,
        agent: choices.agent,
        takeover: choices.takeover,
        gitops: choices.gitops,
    })
}

/// Loads the ignore rules of a synced folder and says which files they come from: the rules of the sync root's own
/// `.stignore`, then those of the one beside a manifest in `.okteto`. Includes count from the file that names them. A
/// file that can't be understood stops everything: without its rules, what it protects would be synced.
pub fn ignore_rules(manifest_path: &Path, root: &Path) -> Result<(Rules, Vec<PathBuf>), SessionError> {
    let mut files = towline_manifest::stignore_places(manifest_path, root);
    files.retain(|place| place.symlink_metadata().is_ok());
    let mut rules = Rules::empty();
    for file in &files {
        let (base, name) = match file.strip_prefix(root) {
            Ok(name) => (root, name),
            Err(_) => (file.parent().unwrap_or(root), Path::new(IGNORE_FILE)),
        };
        let failed = |source| SessionError::Ignore { folder: base.to_owned(), source };
        let more = towline_sync::load_ignore(base, &name.to_string_lossy()).map_err(failed)?;
        rules = rules.followed_by(&more).map_err(failed)?;
    }
    Ok((rules, files))
}

fn hybrid(dev: &Dev, here: &Here) -> Option<Hybrid> {
    let Mode::Hybrid { folder } = &dev.mode else { return None };
    let (folder, path, helper) = (folder.clone(), here.path.clone(), here.helper.clone());
    Some(Hybrid { folder, environment: environment(dev), path, helper })
}

/// Returns the dev service without what is about a container that nothing runs in. Its variables are for the command, and
/// stay on this machine.
fn for_the_container(dev: &Dev) -> Cow<'_, Dev> {
    if dev.mode == Mode::Sync {
        return Cow::Borrowed(dev);
    }
    Cow::Owned(Dev {
        image: None,
        image_pull_policy: None,
        environment: Vec::new(),
        resources: Resources::default(),
        security_context: SecurityContext::default(),
        lifecycle: ManifestLifecycle::default(),
        volumes: Vec::new(),
        external_volumes: Vec::new(),
        persistent_volume: None,
        secrets: Vec::new(),
        ..dev.clone()
    })
}

fn environment(dev: &Dev) -> Vec<(String, String)> {
    dev.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect()
}

fn plan(dev: &Dev) -> DevPlan {
    DevPlan {
        dev_name: dev.name.clone(),
        template: dev.template.clone(),
        container: dev.container.clone(),
        image: dev.image.clone(),
        image_pull_policy: dev.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        environment: environment(dev),
        workdir: dev.workdir.clone(),
        resources: resources(&dev.resources),
        security_context: security_context(&dev.security_context),
        node_selector: map(&dev.node_selector),
        tolerations: dev
            .tolerations
            .iter()
            .map(|toleration| {
                object([
                    ("key", toleration.key.as_ref().map(|key| json!(key))),
                    ("operator", toleration.operator.as_ref().map(|operator| json!(operator))),
                    ("value", toleration.value.as_ref().map(|value| json!(value))),
                    ("effect", toleration.effect.as_ref().map(|effect| json!(effect))),
                    ("tolerationSeconds", toleration.toleration_seconds.map(|seconds| json!(seconds))),
                ])
                .unwrap_or_else(|| json!({}))
            })
            .collect(),
        affinity: dev.affinity.clone(),
        priority_class_name: dev.priority_class_name.clone(),
        service_account: dev.service_account.clone(),
        labels: dev.metadata.labels.clone(),
        annotations: dev.metadata.annotations.clone(),
        stands_in: dev.mode != Mode::Sync,
        keep_probes: Probes {
            liveness: dev.probes.liveness,
            readiness: dev.probes.readiness,
            startup: dev.probes.startup,
        },
        lifecycle: Lifecycle {
            post_start: hook(&dev.lifecycle.post_start),
            pre_stop: hook(&dev.lifecycle.pre_stop),
        },
        storage: storage(dev),
        agent: Agent {
            image: dev.init_container.as_ref().and_then(|init| init.image.clone()),
            ..Agent::default()
        },
        init_resources: dev.init_container.as_ref().and_then(|init| resources(&init.resources)),
        ..DevPlan::default()
    }
}

fn hook(hook: &Hook) -> PlannedHook {
    match &hook.command {
        Some(command) if hook.enabled => PlannedHook::Runs(command.clone()),
        None if hook.enabled => PlannedHook::Kept,
        _ => PlannedHook::Dropped,
    }
}

/// Returns the claim that is asked for, without its name: by `persistentVolume`, or by `volumes` alone.
fn claim(dev: &Dev) -> Option<Value> {
    let volume = dev.persistent_volume.clone();
    let volume = match volume {
        Some(volume) => volume,
        None if dev.volumes.is_empty() => return None,
        None => PersistentVolume { enabled: true, ..PersistentVolume::default() },
    };
    if !volume.enabled {
        return None;
    }
    let mut spec = json!({
        "accessModes": [volume.access_mode.as_deref().unwrap_or("ReadWriteOnce")],
        "resources": {"requests": {"storage": volume.size.as_deref().unwrap_or(CLAIM_SIZE)}},
    });
    let optional = [("storageClassName", &volume.storage_class), ("volumeMode", &volume.volume_mode)];
    for (key, value) in optional {
        if let Some(value) = value {
            spec[key] = json!(value);
        }
    }
    let metadata = json!({"labels": volume.metadata.labels, "annotations": volume.metadata.annotations});
    Some(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}))
}

/// Says which folders are kept: those of `volumes`, and, where a claim is asked for by name, the synced ones.
fn storage(dev: &Dev) -> Storage {
    let kept = |path: &String, place: &str| Kept { path: path.clone(), sub_path: format!("{place}{path}") };
    let whole = dev.persistent_volume.as_ref().is_some_and(|volume| volume.enabled);
    let synced = dev.sync.folders.iter().filter(|_| whole).map(|folder| kept(&folder.remote, "src"));
    let external = dev.external_volumes.iter().map(|volume| External {
        claim: volume.name.clone(),
        sub_path: volume.sub_path.clone(),
        path: volume.mount_path.clone(),
    });
    let volumes = dev.volumes.iter().map(|path| kept(path, "data"));
    Storage { kept: synced.chain(volumes).collect(), external: external.collect(), ..Storage::default() }
}

/// Reads the files of `secrets`.
fn secrets(dev: &Dev) -> Result<Vec<SecretFile>, SessionError> {
    let mut bytes = 0;
    let mut files = Vec::new();
    for secret in &dev.secrets {
        let failed = |source| SessionError::Local { what: "read", path: secret.local.clone(), source };
        let size = std::fs::metadata(&secret.local).map_err(failed)?.len();
        bytes += usize::try_from(size).unwrap_or(usize::MAX).min(MAX_SECRET_BYTES + 1);
        if bytes > MAX_SECRET_BYTES {
            return Err(SessionError::Refused {
                what: format!("the secrets of {}", dev.name),
                why: format!("with {} they are larger than {MAX_SECRET_BYTES} bytes", secret.local.display()),
                hint: "bring large files in with sync".to_owned(),
            });
        }
        let content = std::fs::read(&secret.local).map_err(failed)?;
        files.push(SecretFile {
            path: secret.remote.clone(),
            mode: secret.mode,
            content: Content(content.into()),
        });
    }
    Ok(files)
}

fn resources(resources: &Resources) -> Option<Value> {
    object([("requests", map(&resources.requests)), ("limits", map(&resources.limits))])
}

fn security_context(context: &SecurityContext) -> Option<Value> {
    let list = |names: &[String]| (!names.is_empty()).then(|| json!(names));
    let capabilities =
        object([("add", list(&context.capabilities.add)), ("drop", list(&context.capabilities.drop))]);
    object([
        ("runAsUser", context.run_as_user.map(|user| json!(user))),
        ("runAsGroup", context.run_as_group.map(|group| json!(group))),
        ("fsGroup", context.fs_group.map(|group| json!(group))),
        ("runAsNonRoot", context.run_as_non_root.map(|yes| json!(yes))),
        ("allowPrivilegeEscalation", context.allow_privilege_escalation.map(|yes| json!(yes))),
        ("readOnlyRootFilesystem", context.read_only_root_filesystem.map(|yes| json!(yes))),
        ("capabilities", capabilities),
    ])
}

/// Makes a JSON object of what is there; `None` when nothing is.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    let fields: Map<String, Value> =
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn map(map: &BTreeMap<String, String>) -> Option<Value> {
    (!map.is_empty()).then(|| json!(map))
}

fn forward(dev: &Dev, forward: &ManifestForward) -> Forward {
    let (host, labels) = match &forward.target {
        ForwardTarget::Container => (None, BTreeMap::new()),
        ForwardTarget::Service(name) => (Some(name.clone()), BTreeMap::new()),
        ForwardTarget::Labels(labels) => (None, labels.clone()),
    };
    Forward { interface: dev.interface, local: forward.local, host, labels, port: forward.remote }
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use towline_manifest::{Context, Disk, Kind, Source, parse};

    use super::*;

    struct Folders;

    impl Disk for Folders {
        fn kind(&self, _: &Path) -> Kind {
            Kind::Folder
        }
        fn read(&self, _: &Path, _: usize) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn canonical(&self, path: &Path) -> Option<PathBuf> {
            Some(path.to_owned())
        }
    }

    #[test]
    fn all_forwards_listen_on_the_interface_of_the_service() {
        let text = "forward: ['1:db:2']\ndev:\n  web:\n    interface: 127.0.0.2\n    forward:\n      - 3:4\n      - \
                    {localPort: 5, remotePort: 6, labels: {a: b}}\n";
        let path = Path::new("/nowhere/okteto.yml");
        let context = Context { variables: &|_| None, disk: &Folders, repository: None };
        let manifest = parse(Source { name: "okteto.yml", text, path }, &context).manifest.unwrap();
        let agent = AgentSource::Host { hash: String::new() };
        let choices = Choices {
            command: None,
            process_environment: Vec::new(),
            agent,
            takeover: false,
            gitops: Gitops::Leave,
            way: None,
            on_change: OnChange::default(),
            here: Here::default(),
        };
        let request = request(&manifest, manifest.dev("web").unwrap(), path, choices).unwrap();
        let forwards: Vec<_> = request.forwards.iter().map(|one| (one.begins(), one.leads())).collect();
        let expected = [
            ("127.0.0.2:3", "container:4"),
            ("127.0.0.2:5", "container:6"), // until the plan has found the Service
            ("127.0.0.2:1", "db:2"),
        ];
        assert_eq!(forwards, expected.map(|(begins, leads)| (begins.to_owned(), leads.to_owned())));
        assert_eq!(request.forwards[1].labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn a_hook_stays_goes_or_runs_something_else() {
        let check = |enabled, command: Option<&str>, expected: PlannedHook| {
            let command = command.map(|word| vec![word.to_owned()]);
            assert_eq!(hook(&Hook { enabled, command }), expected);
        };
        check(true, None, PlannedHook::Kept);
        check(true, Some("true"), PlannedHook::Runs(vec!["true".to_owned()]));
        check(false, Some("true"), PlannedHook::Dropped);
        check(false, None, PlannedHook::Dropped);
    }

    /// Returns the dev service `web` with these lines.
    fn dev(lines: &str) -> Dev {
        let text = format!("dev:\n  web:\n    sync: ['.:/app']\n{lines}");
        let path = Path::new("/nowhere/okteto.yml");
        let context = Context { variables: &|_| None, disk: &Folders, repository: None };
        let parsed = parse(Source { name: "okteto.yml", text: &text, path }, &context);
        let problems: Vec<_> = parsed.problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(problems, [""; 0], "{text}");
        parsed.manifest.unwrap().dev("web").unwrap().clone()
    }

    #[test]
    fn what_is_kept_is_what_was_asked_for() {
        let check = |lines: &str, size: Option<&str>, kept: &[&str]| {
            let dev = dev(lines);
            let claim = claim(&dev);
            let found =
                claim.as_ref().and_then(|claim| claim["spec"]["resources"]["requests"]["storage"].as_str());
            assert_eq!(found, size, "{lines}");
            let storage = storage(&dev);
            let places: Vec<_> = storage.kept.iter().map(|kept| kept.sub_path.as_str()).collect();
            assert_eq!(places, kept, "{lines}");
        };
        check("", None, &[]);
        check("    volumes: [/cache]\n", Some("5Gi"), &["data/cache"]);
        check("    persistentVolume: {size: 1Gi}\n", Some("1Gi"), &["src/app"]);
        check("    volumes: [/cache]\n    persistentVolume: {}\n", Some("5Gi"), &["src/app", "data/cache"]);
        check("    volumes: [/cache]\n    persistentVolume: {enabled: false}\n", None, &["data/cache"]);
        let full = "    persistentVolume: {accessModes: [ReadWriteMany], storageClass: fast, volumeMode: Filesystem, \
                    labels: {a: b}, annotations: {c: d}}\n";
        let expected = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "5Gi"}},
                     "storageClassName": "fast", "volumeMode": "Filesystem"},
        });
        assert_eq!(claim(&dev(full)), Some(expected));
    }

    #[test]
    fn both_ignore_files_are_in_force_the_roots_first() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        fs::create_dir(root.join(".okteto")).unwrap();
        let write = |file: &str, text: &str| fs::write(root.join(file), text).unwrap();
        let (top, dotted) = (root.join(".stignore"), root.join(".okteto/.stignore"));
        let manifest = root.join(".okteto/okteto.yml");
        let rules = || ignore_rules(&manifest, root).unwrap();

        assert_eq!(rules().1, [""; 0].map(PathBuf::from));
        write(".okteto/.stignore", "#include shared\n*.log\n");
        write(".okteto/shared", "cache\n");
        assert_eq!(
            (rules().0.lines(), rules().1),
            (vec!["cache".into(), "*.log".into()], vec![dotted.clone()])
        );
        write(".stignore", "#include shared\n!keep.log\n");
        write("shared", "target\n");
        let (both, files) = rules();
        assert_eq!(files, [top, dotted]);
        assert_eq!(both.lines(), ["target", "!keep.log", "cache", "*.log"]);
        for (path, ignored) in [("keep.log", false), ("a.log", true), ("target", true), ("cache", true)] {
            assert_eq!(both.decide(path).ignored, ignored, "{path}");
        }
        assert_eq!(ignore_rules(&root.join("okteto.yml"), root).unwrap().1.len(), 1, "not in the dot folder");

        write(".okteto/.stignore", "[");
        let error = ignore_rules(&manifest, root).unwrap_err().to_string();
        assert!(error.contains(": .okteto/.stignore:1: "), "{error}");
        fs::remove_file(root.join(".stignore")).unwrap();
        std::os::unix::fs::symlink("nothing", root.join(".stignore")).unwrap();
        assert!(ignore_rules(&manifest, root).is_err(), "a link to nothing is not the same as no file");
    }
}

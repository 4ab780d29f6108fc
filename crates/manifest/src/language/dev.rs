//! The fields of an entry of `dev`, and of the `services` inside one.

use super::{
    AFFINITY, Field, INIT_CONTAINER, LIFECYCLE, METADATA, Object, PERSISTENT_VOLUME, PROBES, RESOURCES, Rule,
    SECURITY_CONTEXT, Shape, TOLERATION, pod::COMMAND_LINE,
};

const NAME: Shape = Shape::Text("shop");
const SELECTOR: Shape = Shape::Pairs("app", "shop");
const CONTAINER: Shape = Shape::Text("main");
const IMAGE: Shape = Shape::Text("node:22");
const PULL_POLICY: Shape = Shape::Word(&["Always", "Never", "IfNotPresent"]);
const ARGS: Shape = Shape::List(&Shape::Text("--watch"));
const PATH: Shape = Shape::Text("/app");
const FOLDERS: Shape = Shape::List(&Shape::Text("src:/app"));
const SYNCED: Shape = Shape::Either(&[FOLDERS, Shape::Object(&SYNC)]);
const VARIABLES: Shape = Shape::Either(&[
    Shape::Loose("LOG_LEVEL", &Shape::Text("debug")),
    Shape::List(&Shape::Text("LOG_LEVEL=debug")),
]);
const ENV_FILES: Shape = Shape::Either(&[Shape::List(&Shape::Text(".envfile")), Shape::Text(".envfile")]);
const VOLUMES: Shape = Shape::List(&Shape::Text("/var/cache/app"));
const NODES: Shape = Shape::Pairs("disk", "ssd");
const PORT: i64 = 65_535;
const SWITCH_PROBES: Shape = Shape::Either(&[Shape::Flag(true), Shape::Object(&PROBES)]);
const SWITCH_HOOKS: Shape = Shape::Either(&[Shape::Flag(true), Shape::Object(&LIFECYCLE)]);
const KEPT: &str = "synced folders are kept in the claim only where this field asks for it; without it, and without `volumes`, \
                    there is no claim";
const NO_SSH: &str = "no SSH server runs in the pod; use `towline exec`";
const NOT_HERE: &str = "`namespace` is not chosen in the manifest";
const NOT_HERE_EITHER: &str = "`context` is not chosen in the manifest";
const TYPE_NAMESPACE: &str = "remove it and type --namespace";
const TYPE_CONTEXT: &str = "remove it and type --context";
const MADE: &str = "what is made is the dev container alone, `<name>-towline-<session>`, and its Service `<name>` on port 8080; \
                    `towline down` removes both";
const SHARED: &str = "each is a session of its own whose folders are synced from this machine; a command that ends is started again";
const OWN_CLAIM: &str = "they are kept in a claim of the service's own";
const ONE: &str = "only 1: the dev container is one pod";
const FROM_KUBECONFIG: &str = "shown with a warning and never used: no repository decides where you work";
const ELSEWHERE: &str = "give it to the dev service itself, or make another one";

pub(crate) static DEV: Object =
    Object { id: "dev", what: "a dev service", rule: Rule::Free, fields: &DEV_FIELDS };

/// The one dev service that a manifest of version 1 is.
pub(crate) static VERSION_ONE: Object = Object {
    id: "versionOne",
    what: "a manifest of version 1",
    rule: Rule::Free,
    fields: &OLD_AND_DEV_FIELDS,
};

static OLD_AND_DEV_FIELDS: [Field; 48] = joined(&OLD_FIELDS, &DEV_FIELDS);

/// Returns both lists as one.
const fn joined<const N: usize>(first: &[Field], second: &[Field]) -> [Field; N] {
    let mut fields = [first[0]; N];
    let mut at = 1;
    while at < N {
        fields[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    fields
}

/// What a manifest of version 1 had beside the fields of a dev service, or in place of them.
static OLD_FIELDS: [Field; 8] = [
    Field::new("name", NAME, "The workload's name.").required(),
    Field::new("labels", SELECTOR, "What is `selector` now."),
    Field::new(
        "annotations",
        Shape::Pairs("example.com/note", "hello"),
        "What is `metadata.annotations` now.",
    ),
    Field::new("healthchecks", Shape::Flag(true), "What is `probes` now."),
    Field::new("namespace", Shape::Text("staging"), "The namespace.").differently(FROM_KUBECONFIG),
    Field::new("context", Shape::Text("minikube"), "The context.").differently(FROM_KUBECONFIG),
    Field::new("push", Shape::Anything("{}"), "How the image is built.").not_yet("nothing is built"),
    Field::new("initFromImage", Shape::Flag(true), "Whether the folder begins with the image's files.")
        .differently("it always does"),
];

static DEV_FIELDS: [Field; 40] = [
    Field::new(
        "name",
        NAME,
        "The workload's name, where it is not the key; with its kind: `statefulset/db`, `shops.example.com/main`.",
    ),
    Field::new(
        "inPlace",
        Shape::Flag(true),
        "Whether the workload's own template is changed, or a clone is made; the kind's own way when absent.",
    ),
    Field::new(
        "template",
        Shape::Text("spec.podTemplate"),
        "Where the pod template is in a kind that is not one of Kubernetes' own.",
    ),
    Field::new("selector", SELECTOR, "Labels that select the workload instead of its name."),
    Field::new("container", CONTAINER, "The container to develop in; the first one when absent."),
    Field::new("image", IMAGE, "The image to run; the workload's own when absent."),
    Field::new("imagePullPolicy", PULL_POLICY, "When the image is pulled.")
        .differently("when absent the workload's own policy stays, it does not become `Always`"),
    Field::new("command", COMMAND_LINE, "What to run once the files are there; `sh` when absent."),
    Field::new("args", ARGS, "What follows the command."),
    Field::new(
        "workdir",
        PATH,
        "The working directory in the container; with `mode: hybrid`, a folder of this machine.",
    ),
    Field::new("sync", SYNCED, "The folders that are kept the same on both sides: `local:remote`."),
    Field::new(
        "environment",
        VARIABLES,
        "Variables of the dev container; a name alone takes your own value.",
    ),
    Field::new("envFiles", ENV_FILES, "Files of variables; `environment` wins over them."),
    Field::new(
        "forward",
        Shape::List(&Shape::Either(&[Shape::Text("8080:80"), Shape::Object(&FORWARD)])),
        "Ports of this machine that lead to the container, or to a Service.",
    ),
    Field::new(
        "reverse",
        Shape::List(&Shape::Text("9000:9001")),
        "Ports of the pod that lead to this machine.",
    )
    .differently(
        "they listen on the pod's loopback only, in hybrid mode on all its addresses, after you agreed once",
    ),
    Field::new("resources", Shape::Object(&RESOURCES), "What the container asks for and may use.")
        .differently("when absent the workload's own resources stay"),
    Field::new("securityContext", Shape::Object(&SECURITY_CONTEXT), "Whom the container runs as.")
        .differently("when absent the workload's own stays, it does not become root"),
    Field::new("probes", SWITCH_PROBES, "Which of the workload's probes stay; none when absent."),
    Field::new("lifecycle", SWITCH_HOOKS, "Which of the workload's hooks stay; none when absent."),
    Field::new("nodeSelector", NODES, "Labels that a node must have.")
        .differently("when absent the workload's own stays"),
    Field::new("affinity", Shape::Object(&AFFINITY), "Where the pod wants to be."),
    Field::new("tolerations", Shape::List(&Shape::Object(&TOLERATION)), "Taints that don't matter."),
    Field::new("priorityClassName", Shape::Text("high"), "The priority class."),
    Field::new("serviceAccount", Shape::Text("developer"), "The service account."),
    Field::new("metadata", Shape::Object(&METADATA), "Labels and annotations of the dev pod."),
    Field::new(
        "timeout",
        Shape::Either(&[Shape::Text("90s"), Shape::Object(&TIMEOUT)]),
        "How long to wait: seconds, or such as `1m30s`.",
    )
    .differently("`timeout: 90` is 90 seconds also inside the long form, where Okteto takes nanoseconds"),
    Field::new("interface", Shape::Text("127.0.0.2"), "The address that forwards listen on.")
        .differently("only addresses of this machine alone; any other gets a warning and `127.0.0.1`"),
    Field::new(
        "mode",
        Shape::Word(&["sync", "hybrid"]),
        "Where the code runs: in the container on synced files, or with `hybrid` on this machine.",
    )
    .differently("a manifest's command runs on this machine only after you agreed once; see hybrid.md"),
    Field::new("volumes", VOLUMES, "Folders of the container that are kept between sessions.")
        .differently("with `persistentVolume.enabled: false` they last as long as the pod"),
    Field::new(
        "externalVolumes",
        Shape::List(&Shape::Text("cache:npm:/data")),
        "Claims that exist already: `claim:[folder:]mount`.",
    ),
    Field::new(
        "persistentVolume",
        Shape::Object(&PERSISTENT_VOLUME),
        "The volume claim for files and caches.",
    )
    .differently(KEPT),
    Field::new(
        "secrets",
        Shape::List(&Shape::Text("secret.txt:/etc/token:400")),
        "Local files to mount: `local:remote[:mode]`.",
    ),
    Field::new("initContainer", Shape::Object(&INIT_CONTAINER), "The init containers of the dev pod."),
    Field::new("remote", Shape::Number(0, PORT, 22_000), "The local port of an SSH server.").not_yet(NO_SSH),
    Field::new("sshServerPort", Shape::Number(1, PORT, 2222), "The SSH server's port in the pod.")
        .not_yet(NO_SSH),
    Field::new("autocreate", Shape::Flag(true), "Makes a workload when there is none.").differently(MADE),
    Field::new("services", Shape::List(&Shape::Object(&SERVICE)), "Other workloads that share the folders.")
        .differently(SHARED),
    Field::refused("replicas", "`replicas` is for entries of `services` only", "remove it"),
    Field::refused("namespace", NOT_HERE, TYPE_NAMESPACE),
    Field::refused("context", NOT_HERE_EITHER, TYPE_CONTEXT),
];

pub(crate) static SERVICE: Object = Object {
    id: "service",
    what: "an entry of `services`",
    rule: Rule::AtLeastOne(&["name", "selector", "labels"]),
    fields: &[
        Field::new("name", NAME, "The workload's name."),
        Field::new("selector", SELECTOR, "Labels that select the workload instead of its name."),
        Field::new("container", CONTAINER, "The container; the first one when absent."),
        Field::new("image", IMAGE, "The image to run; the workload's own when absent."),
        Field::new("imagePullPolicy", PULL_POLICY, "When the image is pulled."),
        Field::new(
            "command",
            COMMAND_LINE,
            "What to run; what the workload's own container runs when absent.",
        ),
        Field::new("args", ARGS, "What follows the command."),
        Field::new("workdir", PATH, "The working directory in the container."),
        Field::new("sync", SYNCED, "Folders of the dev service that this one shares: `local:remote`."),
        Field::new("environment", VARIABLES, "Variables of the container."),
        Field::new("envFiles", ENV_FILES, "Files of variables."),
        Field::new("resources", Shape::Object(&RESOURCES), "What the container asks for and may use."),
        Field::new("replicas", Shape::Number(0, i32::MAX as i64, 2), "How many pods run.").differently(ONE),
        Field::new("nodeSelector", NODES, "Labels that a node must have."),
        Field::new("affinity", Shape::Object(&AFFINITY), "Where the pods want to be."),
        Field::new("tolerations", Shape::List(&Shape::Object(&TOLERATION)), "Taints that don't matter."),
        Field::new("metadata", Shape::Object(&METADATA), "Labels and annotations of the pods."),
        Field::new(
            "labels",
            Shape::Pairs("team", "shop"),
            "Labels of the pods; without a name, they select the workload.",
        ),
        Field::new("annotations", Shape::Pairs("example.com/note", "hello"), "Annotations of the pods."),
        Field::new("volumes", VOLUMES, "Folders of the container that are kept between sessions.")
            .differently(OWN_CLAIM),
        Field::new(
            "initContainer",
            Shape::Object(&INIT_CONTAINER),
            "Okteto's init container: `resources` alone.",
        ),
        Field::new("mode", Shape::Word(&["hybrid", "sync"]), "Always `sync`."),
        Field::refused("autocreate", "`autocreate` has no place in `services`", ELSEWHERE),
        Field::refused("externalVolumes", "`externalVolumes` has no place in `services`", ELSEWHERE),
        Field::refused("forward", "`forward` has no place in `services`", ELSEWHERE),
        Field::refused("interface", "`interface` has no place in `services`", ELSEWHERE),
        Field::refused("lifecycle", "`lifecycle` has no place in `services`", ELSEWHERE),
        Field::refused("persistentVolume", "`persistentVolume` has no place in `services`", ELSEWHERE),
        Field::refused("priorityClassName", "`priorityClassName` has no place in `services`", ELSEWHERE),
        Field::refused("probes", "`probes` has no place in `services`", ELSEWHERE),
        Field::refused("remote", "`remote` has no place in `services`", ELSEWHERE),
        Field::refused("reverse", "`reverse` has no place in `services`", ELSEWHERE),
        Field::refused("secrets", "`secrets` has no place in `services`", ELSEWHERE),
        Field::refused("securityContext", "`securityContext` has no place in `services`", ELSEWHERE),
        Field::refused("serviceAccount", "`serviceAccount` has no place in `services`", ELSEWHERE),
        Field::refused("services", "`services` has no place in `services`", ELSEWHERE),
        Field::refused("sshServerPort", "`sshServerPort` has no place in `services`", ELSEWHERE),
        Field::refused("timeout", "`timeout` has no place in `services`", ELSEWHERE),
        Field::refused("namespace", NOT_HERE, TYPE_NAMESPACE),
        Field::refused("context", NOT_HERE_EITHER, TYPE_CONTEXT),
    ],
};

pub(crate) static SYNC: Object = Object {
    id: "sync",
    what: "`sync`",
    rule: Rule::Free,
    fields: &[
        Field::new("folders", FOLDERS, "The folders: `local:remote`."),
        Field::new("compression", Shape::Flag(false), "Whether the stream is compressed.")
            .differently("it is compressed where that pays, whatever is asked"),
        Field::new("verbose", Shape::Flag(true), "Whether every step is logged.")
            .differently("RUST_LOG says what is logged"),
        Field::new(
            "rescanInterval",
            Shape::Number(1, 86_400, 10),
            "How often everything is looked at again, in seconds.",
        ),
    ],
};

pub(crate) static TIMEOUT: Object = Object {
    id: "timeout",
    what: "`timeout`",
    rule: Rule::Free,
    fields: &[
        Field::new("default", Shape::Text("90s"), "For the agent to answer once the pod runs."),
        Field::new("resources", Shape::Text("5m"), "For the pod to run for the first time."),
    ],
};

pub(crate) static FORWARD: Object = Object {
    id: "forward",
    what: "a forward",
    rule: Rule::NotBoth("name", "labels"),
    fields: &[
        Field::new("localPort", Shape::Number(1, PORT, 8081), "The port on this machine.").required(),
        Field::new("remotePort", Shape::Number(1, PORT, 81), "The port there.").required(),
        Field::new("name", Shape::Text("postgres"), "The Service; the dev container when absent."),
        Field::new("labels", SELECTOR, "Labels that one Service alone has."),
    ],
};

pub(crate) static GLOBAL_FORWARD: Object = Object {
    id: "globalForward",
    what: "a forward",
    rule: Rule::NotBoth("name", "labels"),
    fields: &[
        Field::new("localPort", Shape::Number(1, PORT, 5433), "The port on this machine.").required(),
        Field::new("remotePort", Shape::Number(1, PORT, 5432), "The port there.").required(),
        Field::new("name", Shape::Text("postgres"), "The Service; the dev container when absent."),
        Field::new("labels", SELECTOR, "Labels that one Service alone has."),
    ],
};

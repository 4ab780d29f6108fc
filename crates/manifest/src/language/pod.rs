//! The fields that have a counterpart in a Kubernetes pod.

use super::{Field, Object, Rule, Shape};

const LABELS: Shape = Shape::Pairs("team", "shop");
const ANNOTATIONS: Shape = Shape::Pairs("example.com/note", "hello");
const USER: Shape = Shape::Number(0, u32::MAX as i64, 1000);
pub(super) const COMMAND_LINE: Shape =
    Shape::Either(&[Shape::Text("npm run dev"), Shape::List(&Shape::Text("npm"))]);

pub(crate) static RESOURCES: Object = Object {
    id: "resources",
    what: "`resources`",
    rule: Rule::Free,
    fields: &[
        Field::new(
            "requests",
            Shape::Map("cpu", &Shape::Text("500m")),
            "What is set aside: any resource, any amount.",
        ),
        Field::new(
            "limits",
            Shape::Map("memory", &Shape::Text("1Gi")),
            "What may be used: any resource, any amount.",
        ),
    ],
};

pub(crate) static SECURITY_CONTEXT: Object = Object {
    id: "securityContext",
    what: "`securityContext`",
    rule: Rule::Free,
    fields: &[
        Field::new("runAsUser", USER, "The user's number."),
        Field::new("runAsGroup", USER, "The group's number."),
        Field::new("fsGroup", USER, "The group that volumes belong to."),
        Field::new("runAsNonRoot", Shape::Flag(true), "Whether the kubelet refuses root."),
        Field::new("allowPrivilegeEscalation", Shape::Flag(false), "Whether programs may gain rights."),
        Field::new("readOnlyRootFilesystem", Shape::Flag(true), "Whether the image's files are read-only."),
        Field::new("capabilities", Shape::Object(&CAPABILITIES), "Linux capabilities."),
    ],
};

pub(crate) static CAPABILITIES: Object = Object {
    id: "capabilities",
    what: "`capabilities`",
    rule: Rule::Free,
    fields: &[
        Field::new("add", Shape::List(&Shape::Text("SYS_PTRACE")), "Those to add."),
        Field::new("drop", Shape::List(&Shape::Text("ALL")), "Those to drop."),
    ],
};

pub(crate) static PROBES: Object = Object {
    id: "probes",
    what: "`probes`",
    rule: Rule::Free,
    fields: &[
        Field::new("liveness", Shape::Flag(true), "Keeps the workload's liveness probe."),
        Field::new("readiness", Shape::Flag(true), "Keeps the workload's readiness probe."),
        Field::new("startup", Shape::Flag(true), "Keeps the workload's startup probe."),
    ],
};

const ONE_HOOK: Shape = Shape::Either(&[Shape::Flag(true), Shape::Object(&HOOK)]);

pub(crate) static LIFECYCLE: Object = Object {
    id: "lifecycle",
    what: "`lifecycle`",
    rule: Rule::Free,
    fields: &[
        Field::new("postStart", ONE_HOOK, "Keeps the hook that runs after the start."),
        Field::new("preStop", ONE_HOOK, "Keeps the hook that runs before the end."),
    ],
};

pub(crate) static HOOK: Object = Object {
    id: "hook",
    what: "a hook",
    rule: Rule::Free,
    fields: &[
        Field::new("enabled", Shape::Flag(true), "Whether the hook stays."),
        Field::new("command", COMMAND_LINE, "What the hook runs instead."),
    ],
};

pub(crate) static TOLERATION: Object = Object {
    id: "toleration",
    what: "a toleration",
    rule: Rule::Free,
    fields: &[
        Field::new("key", Shape::Text("dedicated"), "The taint's key; every taint when absent."),
        Field::new("operator", Shape::Word(&["Equal", "Exists"]), "How the value is compared."),
        Field::new("value", Shape::Text("dev"), "The taint's value."),
        Field::new(
            "effect",
            Shape::Word(&["PreferNoSchedule", "NoExecute", "NoSchedule"]),
            "The taint's effect.",
        ),
        Field::new(
            "tolerationSeconds",
            Shape::Number(i64::MIN, i64::MAX, 300),
            "How long a `NoExecute` taint is borne, in seconds.",
        ),
    ],
};

pub(crate) static AFFINITY: Object = Object {
    id: "affinity",
    what: "`affinity`",
    rule: Rule::Free,
    fields: &[
        Field::new(
            "nodeAffinity",
            Shape::Anything(r#"{"preferredDuringSchedulingIgnoredDuringExecution": []}"#),
            "As in Kubernetes.",
        ),
        Field::new(
            "podAffinity",
            Shape::Anything(r#"{"preferredDuringSchedulingIgnoredDuringExecution": []}"#),
            "As in Kubernetes.",
        ),
        Field::new(
            "podAntiAffinity",
            Shape::Anything(r#"{"preferredDuringSchedulingIgnoredDuringExecution": []}"#),
            "As in Kubernetes.",
        ),
    ],
};

pub(crate) static METADATA: Object = Object {
    id: "metadata",
    what: "`metadata`",
    rule: Rule::Free,
    fields: &[
        Field::new("labels", LABELS, "Labels of the dev pod."),
        Field::new("annotations", ANNOTATIONS, "Annotations of the dev pod.")
            .differently("the original workload is left as it is, so that `down` has nothing to undo there"),
    ],
};

pub(crate) static INIT_CONTAINER: Object = Object {
    id: "initContainer",
    what: "`initContainer`",
    rule: Rule::Free,
    fields: &[
        Field::new("image", Shape::Text("example.com/tools:1"), "An image that holds the agent.").differently(
            "it is used only without the right to create ConfigMaps, and must hold `/.towline/bin/agent` of this version",
        ),
        Field::new("resources", Shape::Object(&RESOURCES), "What they ask for and may use."),
    ],
};

pub(crate) static PERSISTENT_VOLUME: Object = Object {
    id: "persistentVolume",
    what: "`persistentVolume`",
    rule: Rule::Free,
    fields: &[
        Field::new("enabled", Shape::Flag(false), "Whether files are kept in a volume claim."),
        Field::new("accessMode", Shape::Text("ReadWriteOnce"), "The claim's access mode."),
        Field::new(
            "accessModes",
            Shape::Either(&[Shape::List(&Shape::Text("ReadWriteOnce")), Shape::Text("ReadWriteOnce")]),
            "The claim's access modes; the first counts.",
        ),
        Field::new("size", Shape::Text("10Gi"), "The claim's size."),
        Field::new("storageClass", Shape::Text("standard"), "The claim's storage class."),
        Field::new("volumeMode", Shape::Text("Filesystem"), "The claim's volume mode."),
        Field::new("labels", LABELS, "The claim's labels."),
        Field::new("annotations", ANNOTATIONS, "The claim's annotations."),
    ],
};

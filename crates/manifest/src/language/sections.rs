//! The sections of a manifest, and what stands in those that are not about development.

use super::{DEV, Field, GLOBAL_FORWARD, Object, Rule, Shape};

const NOT_RUN: &str = "nothing of it runs";
const PORT: i64 = 65_535;
const COMMANDS: Shape = Shape::List(&Shape::Either(&[Shape::Text("make deploy"), Shape::Object(&COMMAND)]));
const ARGUMENTS: Shape =
    Shape::Either(&[Shape::Loose("VERSION", &Shape::Text("1")), Shape::List(&Shape::Text("VERSION=1"))]);
const WORDS: Shape = Shape::Either(&[Shape::List(&Shape::Text("base")), Shape::Text("base")]);
const IMAGES: Shape = Shape::Either(&[
    Shape::List(&Shape::Text("example.com/shop:cache")),
    Shape::Text("example.com/shop:cache"),
]);
const COMPOSE_FILES: Shape = Shape::Either(&[
    Shape::Text("compose.yml"),
    Shape::List(&Shape::Either(&[Shape::Text("compose.yml"), Shape::Object(&COMPOSE_FILE)])),
    Shape::Object(&COMPOSE_FILE),
]);
const ENDPOINTS: Shape = Shape::Either(&[
    Shape::List(&Shape::Object(&ENDPOINT)),
    Shape::Map(
        "web",
        &Shape::Either(&[Shape::List(&Shape::Object(&ENDPOINT)), Shape::Object(&NAMED_ENDPOINT)]),
    ),
]);

pub(crate) static TOP: Object = Object {
    id: "manifest",
    what: "the manifest",
    rule: Rule::Free,
    fields: &[
        Field::new("name", Shape::Text("shop"), "The name of the whole.")
            .differently("it is shown, and names nothing in the cluster"),
        Field::new("icon", Shape::Text("database"), "A picture for Okteto's own pages.")
            .not_yet("there are no such pages"),
        Field::new(
            "dev",
            Shape::Either(&[
                Shape::Loose("api", &Shape::Object(&DEV)),
                Shape::List(&Shape::Text("api/okteto.yml")),
            ]),
            "The services that can be developed on, by name.",
        ),
        Field::new(
            "devs",
            Shape::List(&Shape::Text("api/okteto.yml")),
            "Other manifests whose dev services are part of this one.",
        )
        .differently("Okteto no longer knows it; older projects have it"),
        Field::new(
            "forward",
            Shape::List(&Shape::Either(&[Shape::Text("5432:postgres:5432"), Shape::Object(&GLOBAL_FORWARD)])),
            "Forwards of every session, to Services.",
        )
        .differently(
            "one without a Service leads to the dev container; Okteto's schema knows it, its parser does not",
        ),
        Field::new(
            "build",
            Shape::Map("api", &Shape::Either(&[Shape::Object(&BUILD), Shape::Text("src")])),
            "The images to build, by name.",
        )
        .not_yet(NOT_RUN),
        Field::new(
            "deploy",
            Shape::Either(&[COMMANDS, Shape::Object(&DEPLOY)]),
            "How everything gets into the cluster.",
        )
        .not_yet(NOT_RUN),
        Field::new("destroy", Shape::Either(&[COMMANDS, Shape::Object(&DESTROY)]), "How it gets out again.")
            .not_yet(NOT_RUN),
        Field::new(
            "test",
            Shape::Map("unit", &Shape::Object(&TEST)),
            "Tests that run in the cluster, by name.",
        )
        .not_yet(NOT_RUN),
        Field::new(
            "dependencies",
            Shape::Either(&[
                Shape::List(&Shape::Text("https://example.com/shop/base")),
                Shape::Map(
                    "base",
                    &Shape::Either(&[
                        Shape::Object(&DEPENDENCY),
                        Shape::Text("https://example.com/shop/base"),
                    ]),
                ),
            ]),
            "Other repositories to deploy first.",
        )
        .not_yet(NOT_RUN),
        Field::new(
            "external",
            Shape::Map("db", &Shape::Object(&EXTERNAL)),
            "What is elsewhere and belongs to it.",
        )
        .not_yet(NOT_RUN),
        Field::refused(
            "namespace",
            "`namespace` is not chosen in the manifest",
            "remove it and type --namespace",
        ),
        Field::refused("context", "`context` is not chosen in the manifest", "remove it and type --context"),
    ],
};

pub(crate) static BUILD: Object = Object {
    id: "build",
    what: "a build",
    rule: Rule::Free,
    fields: &[
        Field::new("context", Shape::Text("src"), "The folder that is built; `.` when absent."),
        Field::new("dockerfile", Shape::Text("Dockerfile.dev"), "The Dockerfile; `Dockerfile` when absent."),
        Field::new("target", Shape::Text("dev"), "The stage of the Dockerfile."),
        Field::new("image", Shape::Text("example.com/shop:dev"), "The image's name."),
        Field::new("args", ARGUMENTS, "Arguments of the Dockerfile; a name alone takes your own value."),
        Field::new(
            "secrets",
            Shape::Map("token", &Shape::Either(&[Shape::Text("secret.txt"), Shape::Object(&BUILD_SECRET)])),
            "Secrets of the build, by name: a local file, or a variable of yours.",
        ),
        Field::new("cache_from", IMAGES, "Images to take layers from."),
        Field::new("export_cache", IMAGES, "Images to leave layers in."),
        Field::new("depends_on", WORDS, "Builds that come first."),
    ],
};

pub(crate) static BUILD_SECRET: Object = Object {
    id: "buildSecret",
    what: "a secret of a build",
    rule: Rule::ExactlyOne,
    fields: &[
        Field::new("file", Shape::Text("secret.txt"), "The local file."),
        Field::new("env", Shape::Text("NPM_TOKEN"), "The variable of yours."),
    ],
};

pub(crate) static COMMAND: Object = Object {
    id: "command",
    what: "a command",
    rule: Rule::Free,
    fields: &[
        Field::new("name", Shape::Text("deploy"), "What it is called."),
        Field::new("command", Shape::Text("make deploy"), "What runs in a shell.").required(),
    ],
};

pub(crate) static DEPLOY: Object = Object {
    id: "deploy",
    what: "`deploy`",
    rule: Rule::Free,
    fields: &[
        Field::new("image", Shape::Text("example.com/tools:1"), "The image that commands run in."),
        Field::new("context", Shape::Text("src"), "The folder that commands run in."),
        Field::new("remote", Shape::Flag(true), "Whether commands run in the cluster."),
        Field::new("commands", COMMANDS, "What runs, in order."),
        Field::new(
            "compose",
            Shape::Either(&[COMPOSE_FILES, Shape::Object(&COMPOSE)]),
            "Compose files to deploy.",
        ),
        Field::new("endpoints", ENDPOINTS, "Paths that lead from outside to a Service."),
        Field::new(
            "divert",
            Shape::Either(&[Shape::Object(&DIVERT_NGINX), Shape::Object(&DIVERT_ISTIO)]),
            "Traffic of another namespace that comes to this one.",
        ),
    ],
};

pub(crate) static COMPOSE: Object = Object {
    id: "compose",
    what: "`compose`",
    rule: Rule::Free,
    fields: &[
        Field::new("manifest", COMPOSE_FILES, "The Compose files.").required(),
        Field::new("endpoints", ENDPOINTS, "Paths that lead from outside to a Service."),
    ],
};

pub(crate) static COMPOSE_FILE: Object = Object {
    id: "composeFile",
    what: "a Compose file",
    rule: Rule::Free,
    fields: &[
        Field::new("file", Shape::Text("compose.yml"), "The file.").required(),
        Field::new("services", Shape::List(&Shape::Text("db")), "Its services to deploy; all when absent."),
    ],
};

pub(crate) static ENDPOINT: Object = Object {
    id: "endpoint",
    what: "an endpoint",
    rule: Rule::Free,
    fields: &[
        Field::new("path", Shape::Text("/"), "The path outside.").required(),
        Field::new("service", Shape::Text("web"), "The Service.").required(),
        Field::new("port", Shape::Number(1, PORT, 80), "The Service's port.").required(),
    ],
};

pub(crate) static NAMED_ENDPOINT: Object = Object {
    id: "namedEndpoint",
    what: "an endpoint",
    rule: Rule::Free,
    fields: &[
        Field::new("labels", Shape::Pairs("team", "shop"), "Labels of the Ingress."),
        Field::new("annotations", Shape::Pairs("example.com/note", "hello"), "Annotations of the Ingress."),
        Field::new("rules", Shape::List(&Shape::Object(&ENDPOINT)), "The paths.").required(),
    ],
};

const OLD_SERVICE: Field =
    Field::new("service", Shape::Text("web"), "Without effect: of older versions of Okteto.");
const OLD_DEPLOYMENT: Field =
    Field::new("deployment", Shape::Text("web"), "Without effect: of older versions of Okteto.");
const OLD_PORT: Field =
    Field::new("port", Shape::Number(0, PORT, 80), "Without effect: of older versions of Okteto.");

pub(crate) static DIVERT_NGINX: Object = Object {
    id: "divertNginx",
    what: "`divert` by nginx",
    rule: Rule::Free,
    fields: &[
        Field::new("driver", Shape::Word(&["nginx"]), "What diverts: `nginx`, also when absent, or `istio`."),
        Field::new("namespace", Shape::Text("staging"), "The namespace whose traffic comes here: for nginx.")
            .required(),
        OLD_SERVICE,
        OLD_DEPLOYMENT,
        OLD_PORT,
    ],
};

pub(crate) static DIVERT_ISTIO: Object = Object {
    id: "divertIstio",
    what: "`divert` by istio",
    rule: Rule::Free,
    fields: &[
        Field::new("driver", Shape::Word(&["istio"]), "What diverts.").required(),
        Field::new(
            "virtualServices",
            Shape::List(&Shape::Object(&VIRTUAL_SERVICE)),
            "What is diverted: for istio.",
        )
        .required(),
        Field::new("hosts", Shape::List(&Shape::Object(&DIVERT_HOST)), "Hosts of this namespace: for istio."),
        OLD_DEPLOYMENT,
        OLD_PORT,
    ],
};

pub(crate) static VIRTUAL_SERVICE: Object = Object {
    id: "virtualService",
    what: "a virtual service",
    rule: Rule::Free,
    fields: &[
        Field::new("name", Shape::Text("web"), "Its name.").required(),
        Field::new("namespace", Shape::Text("staging"), "Its namespace.").required(),
        Field::new(
            "routes",
            Shape::List(&Shape::Text("v1")),
            "The routes that are diverted; all when absent.",
        ),
    ],
};

pub(crate) static DIVERT_HOST: Object = Object {
    id: "divertHost",
    what: "a host",
    rule: Rule::Free,
    fields: &[
        Field::new("virtualService", Shape::Text("web"), "The virtual service.").required(),
        Field::new("namespace", Shape::Text("staging"), "Its namespace.").required(),
    ],
};

pub(crate) static DESTROY: Object = Object {
    id: "destroy",
    what: "`destroy`",
    rule: Rule::Free,
    fields: &[
        Field::new("image", Shape::Text("example.com/tools:1"), "The image that commands run in."),
        Field::new("remote", Shape::Flag(true), "Whether commands run in the cluster."),
        Field::new("commands", COMMANDS, "What runs, in order."),
    ],
};

pub(crate) static TEST: Object = Object {
    id: "test",
    what: "a test",
    rule: Rule::Free,
    fields: &[
        Field::new("image", Shape::Text("node:22"), "The image that commands run in."),
        Field::new("context", Shape::Text("src"), "The folder that is tested; `.` when absent."),
        Field::new("commands", COMMANDS, "What runs, in order.").required(),
        Field::new("depends_on", WORDS, "Tests that come first."),
        Field::new(
            "caches",
            Shape::List(&Shape::Text("/var/cache/app")),
            "Folders that are kept between runs.",
        ),
        Field::new(
            "artifacts",
            Shape::List(&Shape::Either(&[Shape::Text("coverage"), Shape::Object(&ARTIFACT)])),
            "Files that come back.",
        ),
        Field::new(
            "hosts",
            Shape::List(&Shape::Either(&[Shape::Text("db.local:10.0.0.1"), Shape::Object(&HOST)])),
            "Names of hosts: `name:address`.",
        ),
        Field::new(
            "skipIfNoFileChanges",
            Shape::Flag(true),
            "Whether a test is left out when nothing changed.",
        ),
    ],
};

pub(crate) static ARTIFACT: Object = Object {
    id: "artifact",
    what: "an artifact",
    rule: Rule::Free,
    fields: &[
        Field::new("path", Shape::Text("coverage"), "The file or folder in the test.").required(),
        Field::new(
            "destination",
            Shape::Text("out"),
            "Where it goes on this machine; the same path when absent.",
        ),
    ],
};

pub(crate) static HOST: Object = Object {
    id: "host",
    what: "a host",
    rule: Rule::Free,
    fields: &[
        Field::new("hostname", Shape::Text("db.local"), "The name.").required(),
        Field::new("ip", Shape::Text("10.0.0.1"), "The address.").required(),
    ],
};

pub(crate) static DEPENDENCY: Object = Object {
    id: "dependency",
    what: "a dependency",
    rule: Rule::Free,
    fields: &[
        Field::new("repository", Shape::Text("https://example.com/shop/base"), "The repository.").required(),
        Field::new("manifest", Shape::Text("okteto.yml"), "The manifest in it."),
        Field::new("branch", Shape::Text("main"), "The branch."),
        Field::new(
            "variables",
            ARGUMENTS,
            "Variables for its deployment; a name alone takes your own value.",
        ),
        Field::new("timeout", Shape::Text("5m"), "How long to wait for it."),
        Field::new("wait", Shape::Flag(true), "Whether to wait for it."),
        Field::new("namespace", Shape::Text("staging"), "The namespace that it goes to."),
    ],
};

pub(crate) static EXTERNAL: Object = Object {
    id: "external",
    what: "an external resource",
    rule: Rule::Free,
    fields: &[
        Field::new("icon", Shape::Text("database"), "A picture for Okteto's own pages."),
        Field::new("notes", Shape::Text("docs/db.md"), "A file of words about it."),
        Field::new("endpoints", Shape::List(&Shape::Object(&EXTERNAL_ENDPOINT)), "Where it is.").required(),
    ],
};

pub(crate) static EXTERNAL_ENDPOINT: Object = Object {
    id: "externalEndpoint",
    what: "an endpoint",
    rule: Rule::Free,
    fields: &[
        Field::new("name", Shape::Text("console"), "What it is called."),
        Field::new("url", Shape::Text("https://example.com/db"), "Its address.").required(),
    ],
};

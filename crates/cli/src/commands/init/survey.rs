//! Looks at a repository: which projects are in it, and what each says about how it is run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ecosystem::Ecosystem;

/// How deep below the repository's root projects are looked for.
const MAX_DEPTH: usize = 3;
/// How many folders are looked into.
const MAX_FOLDERS: usize = 2000;
/// How many projects are told.
const MAX_PROJECTS: usize = 12;
/// How much of a file is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;
/// Folders that hold nothing that is developed on.
const SKIPPED: [&str; 14] = [
    "node_modules",
    "vendor",
    "target",
    "build",
    "dist",
    "out",
    "bin",
    "obj",
    "venv",
    "docs",
    "test",
    "tests",
    "testdata",
    "fixtures",
];

/// A project of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// Its folder, relative to the repository's root; empty for the root itself.
    pub(super) folder: PathBuf,
    /// The folder that it needs all of, relative to the root: its own, or that of its workspace.
    pub(super) root: PathBuf,
    /// What it calls itself, else what its folder is called.
    pub(super) name: String,
    /// Its languages, the telling one first.
    pub(super) ecosystems: Vec<Ecosystem>,
    /// Its tool, such as `pnpm`, where there is more than one for the language.
    pub(super) tool: Option<&'static str>,
    /// How it is run.
    pub(super) command: Option<String>,
    /// What its Dockerfile or the project says to develop in.
    pub(super) image: Option<String>,
    /// The folder of its Dockerfile.
    pub(super) workdir: Option<String>,
    /// The ports that it listens on.
    pub(super) ports: Vec<u16>,
    /// Whether it has a Dockerfile.
    pub(super) dockerfile: bool,
}

/// A folder and the names in it.
pub(super) struct Folder<'r> {
    repository: &'r Path,
    pub(super) path: PathBuf,
    names: Vec<String>,
}

impl<'r> Folder<'r> {
    fn open(repository: &'r Path, path: PathBuf) -> Self {
        let mut names: Vec<String> = fs::read_dir(repository.join(&path))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Self { repository, path, names }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Tells whether there is a file at a path below the folder.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.repository.join(&self.path).join(path).is_file()
    }

    /// Returns the beginning of a file; nothing when it isn't there.
    pub(super) fn read(&self, name: &str) -> String {
        use std::io::Read;
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(self.repository.join(&self.path).join(name)) {
            // What can't be read tells nothing.
            let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the folders in this one that may hold projects.
    fn folders(&self) -> Vec<PathBuf> {
        let may = |name: &&String| !name.starts_with('.') && !SKIPPED.contains(&name.as_str());
        let paths = self.names.iter().filter(may).map(|name| self.path.join(name));
        paths
            .filter(|path| fs::symlink_metadata(self.repository.join(path)).is_ok_and(|meta| meta.is_dir()))
            .collect()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_default()
    }
}

/// Returns the projects below `repository`, those nearer to its root first.
pub(super) fn projects(repository: &Path) -> Vec<Project> {
    let mut found: Vec<(Folder<'_>, Vec<Ecosystem>)> = Vec::new();
    let mut level = vec![PathBuf::new()];
    let mut looked = 0;
    for _ in 0..=MAX_DEPTH {
        let mut next = Vec::new();
        for path in level {
            looked += 1;
            if looked > MAX_FOLDERS {
                break;
            }
            let folder = Folder::open(repository, path);
            next.extend(folder.folders());
            let ecosystems = Ecosystem::of(&folder.names);
            if !ecosystems.is_empty() {
                found.push((folder, ecosystems));
            }
        }
        level = next;
    }
    let mut projects: Vec<Project> = Vec::new();
    for (at, (folder, ecosystems)) in found.iter().enumerate() {
        let above = found[..at].iter().filter(|(above, _)| folder.path.starts_with(&above.path));
        let mut workspace =
            above.filter(|(above, has)| is_workspace(above, ecosystems[0]) && has.contains(&ecosystems[0]));
        let workspace = workspace.next().map(|(above, _)| above);
        let project = project(folder, ecosystems, workspace);
        // A part of a workspace is developed on when it can be run; the whole, when no part can.
        if workspace.is_none() || ecosystems[0] == Ecosystem::Node && project.command.is_some() {
            projects.push(project);
        }
    }
    let runs = |project: &Project| project.command.is_some() || project.dockerfile;
    if projects.iter().filter(|project| runs(project)).count() > 0 {
        projects.retain(runs);
    }
    projects.truncate(MAX_PROJECTS);
    projects
}

/// Tells whether projects of a language below this folder are parts of one.
fn is_workspace(folder: &Folder<'_>, ecosystem: Ecosystem) -> bool {
    match ecosystem {
        Ecosystem::Node => {
            folder.has("pnpm-workspace.yaml") || !folder.json("package.json")["workspaces"].is_null()
        }
        Ecosystem::Rust => folder.read("Cargo.toml").contains("[workspace]"),
        Ecosystem::Java => {
            folder.has("settings.gradle")
                || folder.has("settings.gradle.kts")
                || folder.read("pom.xml").contains("<modules>")
        }
        Ecosystem::DotNet => folder.names.iter().any(|name| {
            Path::new(name).extension().is_some_and(|ending| ending == "sln" || ending == "slnx")
        }),
        Ecosystem::Go => folder.has("go.work"),
        Ecosystem::Python | Ecosystem::Ruby | Ecosystem::Php => false,
    }
}

fn project(folder: &Folder<'_>, ecosystems: &[Ecosystem], workspace: Option<&Folder<'_>>) -> Project {
    let docker = Dockerfile::read(folder);
    let (tool, run) = match ecosystems[0] {
        Ecosystem::Node => node(folder, workspace),
        Ecosystem::Python => (python_tool(folder), python(folder)),
        Ecosystem::Go => (None, go(folder)),
        Ecosystem::Rust => (None, plain(folder.has_file("src/main.rs"), "cargo run")),
        Ecosystem::Java => java(folder),
        Ecosystem::Ruby => (None, ruby(folder)),
        Ecosystem::Php => (None, php(folder)),
        Ecosystem::DotNet => {
            let projects = folder.names.iter().filter(|name| name.ends_with("proj")).count();
            (None, plain(projects == 1, "dotnet watch run"))
        }
    };
    let (command, port) = run.map_or((None, None), |run| (Some(run.0), run.1));
    let own_name = match ecosystems[0] {
        Ecosystem::Node => folder.json("package.json")["name"].as_str().map(str::to_owned),
        _ => None,
    };
    let folder_name =
        folder.repository.join(&folder.path).file_name().map(|name| name.to_string_lossy().into_owned());
    let image = docker.images.iter().find(|image| ecosystems[0].knows_image(image)).cloned();
    Project {
        folder: folder.path.clone(),
        root: workspace.map_or_else(|| folder.path.clone(), |workspace| workspace.path.clone()),
        name: own_name.or(folder_name).unwrap_or_else(|| "app".to_owned()),
        ecosystems: ecosystems.to_vec(),
        tool,
        command,
        image: image.or_else(|| own_image(folder, ecosystems[0], tool)),
        workdir: docker.workdir,
        ports: if docker.ports.is_empty() { port.into_iter().collect() } else { docker.ports },
        dockerfile: docker.there,
    }
}

/// A command, and the port that it listens on unless someone says another.
type Run = Option<(String, Option<u16>)>;

fn plain(applies: bool, command: &str) -> Run {
    applies.then(|| (command.to_owned(), None))
}

fn node(folder: &Folder<'_>, workspace: Option<&Folder<'_>>) -> (Option<&'static str>, Run) {
    let root = workspace.unwrap_or(folder);
    let (tool, program, install) = if root.has("pnpm-lock.yaml") || root.has("pnpm-workspace.yaml") {
        ("pnpm", "corepack pnpm", "corepack pnpm install")
    } else if root.has("yarn.lock") {
        ("yarn", "yarn", "yarn install")
    } else if root.has("bun.lock") || root.has("bun.lockb") {
        ("bun", "bun", "bun install")
    } else {
        ("npm", "npm", "npm install")
    };
    let package = folder.json("package.json");
    let scripts = ["dev", "start:dev", "develop", "serve", "start"];
    let Some(script) = scripts.into_iter().find(|name| package["scripts"][name].is_string()) else {
        return (Some(tool), None);
    };
    let inside = folder.path.strip_prefix(&root.path).unwrap_or(&folder.path).display().to_string();
    let run = match (tool, workspace.is_some(), package["name"].as_str()) {
        ("pnpm", true, _) => format!("{program} --filter ./{inside} run {script}"),
        ("npm", true, _) => format!("npm run {script} --workspace {inside}"),
        ("yarn", true, Some(name)) => format!("yarn workspace {name} {script}"),
        ("yarn", ..) => format!("yarn {script}"),
        _ => format!("{program} run {script}"),
    };
    let text = package["scripts"][script].as_str().unwrap_or_default();
    let port = if text.contains("vite") {
        Some(5173)
    } else if ["next", "react-scripts", "nuxt", "nest"].iter().any(|word| text.contains(word)) {
        Some(3000)
    } else {
        None
    };
    (Some(tool), Some((format!("{install} && {run}"), port)))
}

fn python_tool(folder: &Folder<'_>) -> Option<&'static str> {
    [("uv.lock", "uv"), ("poetry.lock", "poetry"), ("Pipfile", "pipenv"), ("requirements.txt", "pip")]
        .into_iter()
        .find_map(|(file, tool)| folder.has(file).then_some(tool))
}

fn python(folder: &Folder<'_>) -> Run {
    let needs = ["pyproject.toml", "requirements.txt", "Pipfile"]
        .map(|file| folder.read(file))
        .concat()
        .to_lowercase();
    let module =
        [("main.py", "main"), ("app.py", "app"), ("app/main.py", "app.main"), ("src/main.py", "src.main")]
            .into_iter()
            .find(|(file, _)| folder.has_file(file));
    let (run, port) = if folder.has("manage.py") {
        ("python manage.py runserver 0.0.0.0:8000".to_owned(), Some(8000))
    } else if let (true, Some((_, module))) = (needs.contains("fastapi"), module) {
        (format!("uvicorn {module}:app --reload --host 0.0.0.0 --port 8000"), Some(8000))
    } else if needs.contains("flask") {
        ("flask run --debug --host 0.0.0.0".to_owned(), Some(5000))
    } else {
        (format!("python {}", module?.0), None)
    };
    let command = match python_tool(folder) {
        Some("uv") => format!("pip install uv && uv run {run}"),
        Some("poetry") => format!("pip install poetry && poetry install && poetry run {run}"),
        Some("pipenv") => format!("pip install pipenv && pipenv install --dev && pipenv run {run}"),
        Some(_) => format!("pip install -r requirements.txt && {run}"),
        None if folder.has("pyproject.toml") => format!("pip install -e . && {run}"),
        None => run,
    };
    Some((command, port))
}

fn go(folder: &Folder<'_>) -> Run {
    if folder.has("main.go") {
        return plain(true, "go run .");
    }
    let commands = Folder::open(folder.repository, folder.path.join("cmd"));
    let mut programs = commands.names.iter().filter(|name| commands.has_file(&format!("{name}/main.go")));
    match (programs.next(), programs.next()) {
        (Some(one), None) => Some((format!("go run ./cmd/{one}"), None)),
        _ => None,
    }
}

fn java(folder: &Folder<'_>) -> (Option<&'static str>, Run) {
    let gradle = ["build.gradle", "build.gradle.kts"].map(|file| folder.read(file)).concat();
    let maven = folder.read("pom.xml");
    if maven.is_empty() {
        let program = if folder.has("gradlew") { "./gradlew" } else { "gradle" };
        let spring = gradle.contains("org.springframework.boot");
        return (Some("gradle"), spring.then(|| (format!("{program} bootRun"), Some(8080))));
    }
    let program = if folder.has("mvnw") { "./mvnw" } else { "mvn" };
    let goal = [("spring-boot", "spring-boot:run"), ("quarkus", "quarkus:dev")];
    let goal = goal.into_iter().find(|(word, _)| maven.contains(word));
    (Some("maven"), goal.map(|(_, goal)| (format!("{program} {goal}"), Some(8080))))
}

fn ruby(folder: &Folder<'_>) -> Run {
    if folder.has_file("bin/rails") {
        return Some(("bundle install && bin/rails server -b 0.0.0.0".to_owned(), Some(3000)));
    }
    folder
        .has("config.ru")
        .then(|| ("bundle install && bundle exec rackup -o 0.0.0.0".to_owned(), Some(9292)))
}

fn php(folder: &Folder<'_>) -> Run {
    if folder.has("artisan") {
        return Some(("composer install && php artisan serve --host 0.0.0.0".to_owned(), Some(8000)));
    }
    let public = folder.has_file("public/index.php");
    public.then(|| ("composer install && php -S 0.0.0.0:8000 -t public".to_owned(), Some(8000)))
}

/// Returns the image of the version that the project itself asks for.
fn own_image(folder: &Folder<'_>, ecosystem: Ecosystem, tool: Option<&str>) -> Option<String> {
    let digits = |text: &str| {
        let text = text.trim().trim_start_matches(['v', '^', '~', '>', '=', ' ']);
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        Some(text[..end].trim_matches('.').to_owned()).filter(|version| !version.is_empty())
    };
    match ecosystem {
        Ecosystem::Node if tool == Some("bun") => Some("oven/bun:1".to_owned()),
        Ecosystem::Node => {
            let package = folder.json("package.json");
            let asked =
                digits(&folder.read(".nvmrc")).or_else(|| digits(package["engines"]["node"].as_str()?));
            asked.map(|version| format!("node:{version}"))
        }
        Ecosystem::Python => {
            digits(&folder.read(".python-version")).map(|version| format!("python:{version}"))
        }
        Ecosystem::Go => {
            let text = folder.read("go.mod");
            let version = text.lines().find_map(|line| digits(line.strip_prefix("go ")?))?;
            let short: Vec<_> = version.split('.').take(2).collect();
            Some(format!("golang:{}", short.join(".")))
        }
        Ecosystem::Ruby => digits(&folder.read(".ruby-version")).map(|version| format!("ruby:{version}")),
        _ => None,
    }
}

/// What a Dockerfile says about how the project is run.
#[derive(Default)]
struct Dockerfile {
    there: bool,
    images: Vec<String>,
    workdir: Option<String>,
    ports: Vec<u16>,
}

impl Dockerfile {
    fn read(folder: &Folder<'_>) -> Self {
        let mut docker = Self::default();
        for name in ["Dockerfile.dev", "Dockerfile"] {
            if folder.has(name) {
                docker.there = true;
                docker.take(&folder.read(name));
            }
        }
        docker
    }

    fn take(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(instruction) = words.next() else { continue };
            match instruction.to_ascii_uppercase().as_str() {
                "FROM" => {
                    let image =
                        words.find(|word| !word.starts_with("--")).filter(|image| !image.contains('$'));
                    self.images.extend(image.map(str::to_owned));
                }
                "WORKDIR" => {
                    let path = words
                        .next()
                        .filter(|path| path.starts_with('/') && path.len() > 1 && !path.contains('$'));
                    self.workdir = path.map(str::to_owned).or(self.workdir.take());
                }
                "EXPOSE" => {
                    let port =
                        |word: &str| word.split('/').next()?.parse::<u16>().ok().filter(|port| *port > 0);
                    self.ports.extend(words.filter_map(port));
                }
                _ => {}
            }
        }
        self.ports.sort_unstable();
        self.ports.dedup();
    }
}

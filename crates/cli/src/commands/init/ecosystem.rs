//! What is known of each language: how its projects are told, the image, the command, what never needs to be synced.

/// A language with its tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ecosystem {
    Node,
    Python,
    Go,
    Rust,
    Java,
    Ruby,
    Php,
    DotNet,
}

/// The files that tell a project's language, the telling ones first; a name that begins with `.` is an ending.
const MARKERS: [(&str, Ecosystem); 18] = [
    ("package.json", Ecosystem::Node),
    ("go.mod", Ecosystem::Go),
    ("Cargo.toml", Ecosystem::Rust),
    ("pom.xml", Ecosystem::Java),
    ("build.gradle", Ecosystem::Java),
    ("build.gradle.kts", Ecosystem::Java),
    ("pyproject.toml", Ecosystem::Python),
    ("requirements.txt", Ecosystem::Python),
    ("Pipfile", Ecosystem::Python),
    ("setup.py", Ecosystem::Python),
    ("manage.py", Ecosystem::Python),
    ("Gemfile", Ecosystem::Ruby),
    ("composer.json", Ecosystem::Php),
    (".csproj", Ecosystem::DotNet),
    (".fsproj", Ecosystem::DotNet),
    (".vbproj", Ecosystem::DotNet),
    (".sln", Ecosystem::DotNet),
    (".slnx", Ecosystem::DotNet),
];

/// What no side needs from the other, whatever the language.
const COMMON: [&str; 6] = [".git", ".DS_Store", "*.swp", "*~", ".idea", ".vscode"];

impl Ecosystem {
    /// Returns the languages of a folder, by the names in it: each once, the telling one first.
    pub(super) fn of(names: &[String]) -> Vec<Self> {
        let is = |marker: &str, name: &str| {
            if marker.starts_with('.') {
                name.len() > marker.len() && name.ends_with(marker)
            } else {
                name == marker
            }
        };
        let mut found = Vec::new();
        for (marker, ecosystem) in MARKERS {
            if !found.contains(&ecosystem) && names.iter().any(|name| is(marker, name)) {
                found.push(ecosystem);
            }
        }
        // A front end is often built by Node inside a project of another language.
        if found.len() > 1
            && found[0] == Self::Node
            && (names.iter().any(|name| name == "artisan" || name == "Gemfile" || name == "manage.py"))
        {
            found.rotate_left(1);
        }
        found
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Rust => "Rust",
            Self::Java => "Java",
            Self::Ruby => "Ruby",
            Self::Php => "PHP",
            Self::DotNet => ".NET",
        }
    }

    /// Returns the image to develop in when the project names none.
    pub(super) const fn image(self, gradle: bool) -> &'static str {
        match self {
            Self::Node => "node:22",
            Self::Python => "python:3.13",
            Self::Go => "golang:1.25",
            Self::Rust => "rust:1",
            Self::Java if gradle => "gradle:jdk21",
            Self::Java => "maven:3-eclipse-temurin-21",
            Self::Ruby => "ruby:3.4",
            Self::Php => "composer:2",
            Self::DotNet => "mcr.microsoft.com/dotnet/sdk:9.0",
        }
    }

    /// Tells whether an image of a Dockerfile has this language's tools, so that it is one to develop in.
    pub(super) fn knows_image(self, image: &str) -> bool {
        let name = image.rsplit('/').next().unwrap_or(image).split([':', '@']).next().unwrap_or_default();
        match self {
            Self::Node => matches!(name, "node" | "bun"),
            Self::Python => matches!(name, "python" | "uv"),
            Self::Go => name == "golang",
            Self::Rust => name == "rust",
            Self::Java => matches!(name, "maven" | "gradle"),
            Self::Ruby => name == "ruby",
            Self::Php => matches!(name, "php" | "composer"),
            Self::DotNet => name == "sdk",
        }
    }

    /// Returns what the language makes anew on each side by itself.
    const fn made(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[
                "node_modules",
                ".next",
                ".nuxt",
                ".svelte-kit",
                ".turbo",
                ".parcel-cache",
                ".cache",
                "dist",
                "coverage",
                "*.tsbuildinfo",
                "npm-debug.log*",
                "yarn-error.log",
                ".yarn/cache",
                ".pnpm-store",
            ],
            Self::Python => &[
                "__pycache__",
                "*.py[cod]",
                ".venv",
                "venv",
                ".tox",
                ".nox",
                ".mypy_cache",
                ".pytest_cache",
                ".ruff_cache",
                "*.egg-info",
                ".coverage",
                "htmlcov",
            ],
            Self::Go => &["/bin", "*.test", "*.prof", "*.out"],
            Self::Rust => &["target", "*.rs.bk"],
            Self::Java => &["target", "build", ".gradle", "out", "*.class", "*.hprof"],
            Self::Ruby => {
                &["/.bundle", "/vendor/bundle", "/log/*.log", "/tmp", "/coverage", "/public/assets"]
            }
            Self::Php => {
                &["vendor", "/storage/logs", "/storage/framework/cache", "/bootstrap/cache", ".phpunit.cache"]
            }
            Self::DotNet => &["bin", "obj", ".vs", "*.user", "TestResults"],
        }
    }
}

/// Returns the text of a `.stignore` for a folder with these languages.
pub(super) fn ignore_file(ecosystems: &[Ecosystem]) -> String {
    let mut text =
        "// What is not synced: one pattern a line, as Syncthing has them. The first that matches decides.\n"
            .to_owned();
    let mut known: Vec<&str> = Vec::new();
    let mut add = |text: &mut String, title: &str, patterns: &[&'static str]| {
        let new: Vec<_> = patterns.iter().copied().filter(|pattern| !known.contains(pattern)).collect();
        if !new.is_empty() {
            text.push_str(&format_section(title, &new));
            known.extend(new);
        }
    };
    add(&mut text, "version control and editors", &COMMON);
    for ecosystem in ecosystems {
        add(&mut text, ecosystem.name(), ecosystem.made());
    }
    text
}

fn format_section(title: &str, patterns: &[&str]) -> String {
    format!("\n// {title}\n{}\n", patterns.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_by_its_files() {
        let of =
            |names: &[&str]| Ecosystem::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        for (names, expected) in [
            (vec!["package.json", "pnpm-lock.yaml"], vec![Ecosystem::Node]),
            (vec!["go.mod"], vec![Ecosystem::Go]),
            (vec!["Cargo.toml", "package.json"], vec![Ecosystem::Node, Ecosystem::Rust]),
            (vec!["composer.json", "package.json", "artisan"], vec![Ecosystem::Php, Ecosystem::Node]),
            (vec!["Gemfile", "package.json"], vec![Ecosystem::Ruby, Ecosystem::Node]),
            (vec!["build.gradle.kts"], vec![Ecosystem::Java]),
            (vec!["Shop.csproj"], vec![Ecosystem::DotNet]),
            (vec![".csproj", "README.md"], vec![]),
        ] {
            assert_eq!(of(&names), expected, "{names:?}");
        }
    }

    #[test]
    fn an_image_with_the_tools_is_known_by_its_name() {
        for (ecosystem, image, known) in [
            (Ecosystem::Node, "node:20-alpine", true),
            (Ecosystem::Node, "example.com/library/node:20@sha256:0", true),
            (Ecosystem::Node, "nginx:1", false),
            (Ecosystem::Go, "golang:1.24", true),
            (Ecosystem::Go, "gcr.io/distroless/static", false),
            (Ecosystem::Java, "eclipse-temurin:21-jre", false),
            (Ecosystem::DotNet, "mcr.microsoft.com/dotnet/sdk:8.0", true),
            (Ecosystem::DotNet, "mcr.microsoft.com/dotnet/aspnet:8.0", false),
        ] {
            assert_eq!(ecosystem.knows_image(image), known, "{image}");
        }
    }

    #[test]
    fn every_pattern_is_written_once() {
        let text = ignore_file(&[Ecosystem::Java, Ecosystem::Rust, Ecosystem::Rust]);
        assert_eq!(text.lines().filter(|line| *line == "target").count(), 1, "{text}");
        assert!(text.lines().any(|line| line == ".git"));
    }
}

//! The agent as the first process of a container.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use towline_protocol::{ControlReply, ControlRequest, ProcessState};

use crate::stand::{Agent, in_time, is_alive, on_terminal, program, script, status_line, until};

/// The processes whose parent this is.
fn children(pid: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| status_line(*child, "PPid") == Some(pid.to_string())).collect()
}

#[tokio::test]
async fn says_who_it_is() {
    in_time(async {
        let mut agent = Agent::new().await;
        let client = agent.client().await;
        let bytes = fs::read(env!("CARGO_BIN_EXE_towline-agent")).unwrap();
        assert_eq!(client.peer.program, *blake3::hash(&bytes).as_bytes());
        assert_eq!(client.peer.version, towline_protocol::VERSION);
        let said = format!("{}+{}", env!("CARGO_PKG_VERSION"), towline_sync_core::message::VERSION);
        assert_eq!(said, towline_protocol::VERSION, "a change of the messages is a change of the version");
        let status = client.status().await;
        assert_eq!(status.workdir, agent.temp.path().canonicalize().unwrap().to_str().unwrap());
        assert_eq!(
            status.uid.to_string(),
            status_line(agent.pid(), "Uid").unwrap().split_whitespace().next().unwrap()
        );
        assert_eq!(
            status.gid.to_string(),
            status_line(agent.pid(), "Gid").unwrap().split_whitespace().next().unwrap()
        );
        assert_eq!(agent.client().await.status().await.instance, status.instance);

        // Killed, it leaves its socket; the next one takes its place and is known as another.
        agent.process.start_kill().unwrap();
        agent.process.wait().await.unwrap();
        let Agent { temp, run_dir, .. } = agent;
        assert!(fs::symlink_metadata(run_dir.join("agent/socket")).unwrap().file_type().is_socket());
        let agent = Agent::start(temp, run_dir, |_| {}).await;
        let next = agent.client().await.status().await;
        assert_ne!(next.instance, status.instance);
        assert_eq!(next.process, ProcessState::Idle);
    })
    .await;
}

#[tokio::test]
async fn collects_the_orphans() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        // Grandchildren that lose their parent, and one that is still there to be looked at.
        let text = "for i in 1 2 3 4 5 6 7 8; do (true & sh -c true &) done; (sleep 0.3 & echo $!)";
        let mut process = client.exec(script(text)).await;
        assert_eq!(process.code().await, 0);
        let orphan: u32 = String::from_utf8_lossy(&process.output).trim().parse().unwrap();
        until("the orphan's new parent", || {
            (status_line(orphan, "PPid")? == agent.pid().to_string()).then_some(())
        })
        .await;
        until("no zombies", || children(agent.pid()).is_empty().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn ends_in_time_with_all_it_has_started() {
    in_time(async {
        for (text, least) in
            [("echo ready; exec sleep 100", 0), ("trap '' TERM; echo ready; while :; do sleep 0.05; done", 2)]
        {
            for spec in [script(text), on_terminal(text)] {
                let mut agent = Agent::new().await;
                let client = agent.client().await;
                client.start(spec.clone()).await.unwrap();
                client.attach(0, None).await.until("ready").await;
                let mut beside = client.exec(spec).await;
                beside.until("ready").await;
                let started = children(agent.pid());
                assert_eq!(started.len(), 2);
                let asked = Instant::now();
                agent.signal("TERM");
                assert!(agent.process.wait().await.unwrap().success());
                let took = asked.elapsed();
                assert!(took < Duration::from_secs(3) && took >= Duration::from_secs(least), "{took:?}");
                assert!(!started.into_iter().any(is_alive));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_hangup_is_not_its_end() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        agent.signal("HUP");
        agent.signal("QUIT");
        client.status().await;
        agent.client().await.status().await;
    })
    .await;
}

/// The socket inodes in a table of `/proc/PID/net`.
fn inodes(pid: u32, table: &str, field: usize) -> HashSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| Some(line.split_whitespace().nth(field)?.to_owned())).collect()
}

fn sockets(pid: u32) -> HashSet<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = folder.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

#[tokio::test]
async fn opens_nothing_to_the_network() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(on_terminal("cat")).await.unwrap();
        client.exec(script("true")).await.code().await;
        let own = sockets(agent.pid());
        assert!(!own.is_empty(), "its unix sockets");
        let network = |own: &HashSet<String>| {
            let tables = ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"];
            let field = |table: &str| if table == "packet" { 8 } else { 9 };
            tables.iter().any(|table| !inodes(agent.pid(), table, field(table)).is_disjoint(own))
        };
        assert!(!network(&own));
        let unix = fs::read_to_string(format!("/proc/{}/net/unix", agent.pid())).unwrap();
        for line in unix.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_abstract = fields.get(7).is_some_and(|path| path.starts_with('@'));
            assert!(!(is_abstract && own.contains(fields[6])), "{line}");
        }
        // And this would have seen it: a listener that is asked for.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(
            client.ask(ControlRequest::Listen { port, everywhere: false }).await,
            ControlReply::Listening
        );
        assert!(network(&sockets(agent.pid())));
    })
    .await;
}

#[tokio::test]
async fn the_commands_output_is_the_containers_log() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let mut agent = Agent::start(temp, run_dir, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
        .await;
        let mut log = agent.process.stdout.take().unwrap();
        let client = agent.client().await;
        let spec = script("echo hello; echo beside >&2; cat");
        client.start(spec).await.unwrap();
        client.exec(script("echo not for the log")).await.code().await;
        let mut line = [0; 6];
        log.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"hello\n");
        agent.signal("TERM");
        agent.process.wait().await.unwrap();
        let (mut rest, mut errors) = (String::new(), String::new());
        log.read_to_string(&mut rest).await.unwrap();
        agent.process.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
        assert_eq!(rest, "");
        assert!(errors.contains("beside\n") && errors.contains("started \"sh\""), "{errors}");
        assert!(!errors.contains("hello"), "{errors}");
    })
    .await;
}

#[tokio::test]
async fn wrong_command_lines_are_refused() {
    in_time(async {
        let output = program().arg("version").output().await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), env!("CARGO_PKG_VERSION"));
        for (arguments, code) in
            [(&["jump"][..], 2), (&["run"], 2), (&["run", "--run-dir", "/no/such/folder"], 1)]
        {
            let output = program().args(arguments).output().await.unwrap();
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
            assert!(output.stderr.starts_with(b"towline-agent: "));
        }
    })
    .await;
}

#[tokio::test]
async fn the_log_says_when_nobody_looks_any_more() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let mut agent = Agent::start(temp, run_dir, |command| {
            command.stderr(Stdio::piped());
        })
        .await;
        let mut log = BufReader::new(agent.process.stderr.take().unwrap()).lines();
        let client = agent.client().await;
        client.start(script("echo hello; cat")).await.unwrap();
        client.attach(0, None).await.until("hello").await;
        client.vanish().await;
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("the laptop is away; the command goes on") {
                break;
            }
        }
        let status = agent.client().await.status().await;
        assert!(matches!(status.process, ProcessState::Running { .. }), "{status:?}");
    })
    .await;
}

//! Who gets to the agent, and what it makes of those who speak nonsense.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use towline_link::Priority;
use towline_link::message::{MessageReader, MessageWriter};
use towline_protocol::{
    ChannelRequest, ControlReply, ControlRequest, MAX_MESSAGE_BYTES, ProcessOutput, encode,
};

use crate::stand::{Agent, Client, Process, in_time, program, reason, script};

/// Starts an agent that must refuse its run folder.
async fn refused(run_dir: &Path) -> String {
    let output = program().arg("run").arg("--run-dir").arg(run_dir).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn the_folder_is_private() {
    in_time(async {
        let agent = Agent::new().await;
        let mode = fs::metadata(agent.run_dir.join("agent")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    })
    .await;
}

#[tokio::test]
async fn a_folder_of_others_is_refused() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let other = temp.path().join("other");
        fs::create_dir(&other).unwrap();
        let linked = temp.path().join("linked");
        fs::create_dir(&linked).unwrap();
        symlink(&other, linked.join("agent")).unwrap();
        let open = temp.path().join("open");
        fs::create_dir_all(open.join("agent")).unwrap();
        fs::set_permissions(open.join("agent"), fs::Permissions::from_mode(0o750)).unwrap();
        let file = temp.path().join("file");
        fs::create_dir(&file).unwrap();
        fs::write(file.join("agent"), "").unwrap();
        let mut refusing = vec![linked, open, file];
        if is_root() {
            let foreign = temp.path().join("foreign");
            fs::create_dir_all(foreign.join("agent")).unwrap();
            fs::set_permissions(foreign.join("agent"), fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(foreign.join("agent"), Some(12345), None).unwrap();
            refusing.push(foreign);
        }
        for run_dir in refusing {
            let words = refused(&run_dir).await;
            assert!(words.contains(run_dir.to_str().unwrap()), "{words}");
            assert!(Client::new(&run_dir).await.is_err());
        }
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    })
    .await;
}

#[tokio::test]
async fn other_users_are_refused() {
    if !is_root() {
        return;
    }
    in_time(async {
        let agent = Agent::new().await;
        fs::set_permissions(agent.temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Where anybody can get at the program.
        let copy = agent.temp.path().join("program");
        fs::copy(env!("CARGO_BIN_EXE_towline-agent"), &copy).unwrap();
        let as_other = || {
            let mut command = tokio::process::Command::new("setpriv");
            command.args(["--reuid", "12345", "--clear-groups"]).arg(&copy).kill_on_drop(true);
            command.arg("connect").arg("--run-dir").arg(&agent.run_dir);
            command
        };
        let words = Client::over(as_other()).await.err().expect("the folder is closed");
        assert!(words.contains("agent's socket"), "{words}");

        // With the folder open to all, the agent still looks at who comes.
        let socket = agent.run_dir.join("agent/socket");
        for path in [&agent.run_dir.join("agent"), &socket] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let text =
            "use IO::Socket::UNIX; $s = IO::Socket::UNIX->new(Peer => shift) or die; print STDOUT <$s>";
        let mut command = tokio::process::Command::new("setpriv");
        command.args(["--reuid", "12345", "--clear-groups", "perl", "-e", text]).arg(&socket);
        let output = command.output().await.unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let mut own = UnixStream::connect(&socket).await.unwrap();
        own.read_exact(&mut [0; 16]).await.expect("a hello for ourselves");
    })
    .await;
}

#[tokio::test]
async fn nonsense_on_the_socket_ends_that_client_alone() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let socket = agent.run_dir.join("agent/socket");
        for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 4096]] {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            // It may hang up before it has read everything.
            let _ = stream.write_all(nonsense).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        drop(UnixStream::connect(&socket).await.unwrap());
        client.status().await;
        agent.client().await.status().await;
    })
    .await;
}

#[tokio::test]
async fn nonsense_on_a_channel_ends_that_channel_alone() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let mut trailing = encode(&ChannelRequest::Control);
        trailing.push(0);
        let openings =
            [vec![], vec![0xff; 100], vec![99], trailing, encode(&ChannelRequest::Reverse { port: 1 })];
        for opening in openings {
            let mut process =
                Process::new(client.link.open(opening.clone(), Priority::Normal).await.unwrap());
            let reason = process.refusal().await;
            assert!(
                reason.contains("can't understand") || reason.contains("opens reverse"),
                "{opening:?} {reason}"
            );
        }
        // A message that is none, and one that would be too long, end the channel.
        for nonsense in [&[1, 0, 0, 0, 99][..], &u32::MAX.to_le_bytes(), &[1, 0, 0]] {
            for request in [ChannelRequest::Control, ChannelRequest::Exec(script("exec sleep 100"))] {
                let (reader, mut writer) = client.open(&request).await.split();
                writer.write_all(nonsense).await.unwrap();
                writer.shutdown().await.unwrap();
                let ended = MessageReader::new(reader).next::<ProcessOutput>().await;
                assert!(matches!(ended, Ok(None) | Err(_)), "{nonsense:?} {ended:?}");
            }
        }
        let (_reader, writer) = client.open(&ChannelRequest::Control).await.split();
        let mut writer = MessageWriter::with_limit(writer, 2 * MAX_MESSAGE_BYTES);
        let mut spec = script("true");
        spec.argv.push("x".repeat(MAX_MESSAGE_BYTES));
        let _ = writer.send(&ControlRequest::Start(spec)).await;
        client.status().await;
    })
    .await;
}

#[tokio::test]
async fn a_sync_channel_that_speaks_nonsense_is_told() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (reader, mut writer) = client.open(&ChannelRequest::Sync).await.split();
        writer.write_all(&[0xff; 64]).await.unwrap();
        let told = reason(MessageReader::new(reader).next::<ProcessOutput>().await.unwrap_err());
        assert!(told.contains("no sound length"), "{told}");
        client.status().await;
    })
    .await;
}

#[tokio::test]
async fn a_deep_run_folder_is_no_obstacle() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = (0..20).fold(temp.path().to_owned(), |folder, _| folder.join("a-rather-long-name"));
        fs::create_dir_all(&run_dir).unwrap();
        assert!(run_dir.as_os_str().len() > 108);
        let agent = Agent::start(temp, run_dir, |_| {}).await;
        agent.client().await.status().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_agent_leaves_the_first_alone() {
    in_time(async {
        let agent = Agent::new().await;
        let words = refused(&agent.run_dir).await;
        assert!(words.contains("another agent"), "{words}");
        agent.client().await.status().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_may_come_before_its_agent() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let early = Client::new(&run_dir);
        let starting = Agent::start(temp, run_dir.clone(), |_| {});
        let (early, _agent) = tokio::join!(early, starting);
        early.unwrap().status().await;
    })
    .await;
}

#[tokio::test]
async fn paths_go_below_the_prefix() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        let root = temp.path().canonicalize().unwrap().join("root");
        fs::create_dir_all(root.join("app")).unwrap();
        fs::create_dir(&run_dir).unwrap();
        let agent = Agent::start(temp, run_dir, |command| {
            command.arg("--prefix").arg(&root);
        })
        .await;
        let client = agent.client().await;
        let mut spec = script("pwd");
        spec.workdir = Some("/app".to_owned());
        let mut process = client.exec(spec).await;
        assert_eq!(process.code().await, 0);
        process.until(root.join("app").to_str().unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn one_answer_to_each_question_in_order() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let questions: Vec<_> = (0..200)
            .map(|index| match index % 3 {
                0 => ControlRequest::Status,
                1 => ControlRequest::Stop { grace_milliseconds: 1 },
                _ => ControlRequest::Start(script("exec sleep 100")),
            })
            .collect();
        for (question, reply) in questions.iter().zip(client.ask_all(&questions).await) {
            assert!(
                matches!(
                    (question, &reply),
                    (ControlRequest::Status, ControlReply::Status(_))
                        | (ControlRequest::Stop { .. }, ControlReply::Stopped)
                        | (ControlRequest::Start(_), ControlReply::Started(_))
                ),
                "{question:?} {reply:?}"
            );
        }
    })
    .await;
}

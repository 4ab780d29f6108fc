//! The user's command: started once, attached to by whoever comes.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;

use towline_protocol::{
    ControlReply, ControlRequest, ExitStatus, ProcessInput, ProcessSpec, ProcessState, Started, TerminalSize,
};

use crate::stand::{Agent, in_time, is_alive, on_terminal, script, until};

const INT: i32 = 2;
const TERM: i32 = 15;

#[tokio::test]
async fn output_and_errors_come_apart_from_pipes_and_together_from_a_terminal() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let text = "echo out; echo err >&2; exit 3";
        assert_eq!(client.start(script(text)).await, Ok(Started::Now));
        let mut process = client.attach(0, None).await;
        assert_eq!(process.code().await, 3);
        assert_eq!((&*process.output, &*process.errors), (&b"out\n"[..], &b"err\n"[..]));

        assert_eq!(client.start(on_terminal(text)).await, Ok(Started::Now), "a new start after the end");
        let mut process = client.attach(0, None).await;
        assert_eq!(process.code().await, 3);
        assert_eq!((&*process.output, &*process.errors), (&b"out\r\nerr\r\n"[..], &b""[..]));
    })
    .await;
}

#[tokio::test]
async fn a_running_command_is_not_started_twice() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        assert_eq!(client.status().await.process, ProcessState::Idle);
        assert_eq!(client.attach(0, None).await.refusal().await, "no command was started");
        assert_eq!(client.start(script("echo one; cat")).await, Ok(Started::Now));
        assert_eq!(client.start(script("echo two")).await, Ok(Started::Already));
        let mut process = client.attach(0, None).await;
        process.until("one\n").await;
        assert!(matches!(client.status().await.process, ProcessState::Running { pid } if is_alive(pid)));
        process.send(ProcessInput::Close).await;
        assert_eq!(process.code().await, 0);
        assert_eq!(client.status().await.process, ProcessState::Exited(ExitStatus::Code(0)));
    })
    .await;
}

#[tokio::test]
async fn all_clients_see_all_of_it() {
    in_time(async {
        let agent = Agent::new().await;
        let (one, two) = (agent.client().await, agent.client().await);
        one.start(script("cat; echo end")).await.unwrap();
        let (mut first, mut second) = (one.attach(0, None).await, two.attach(0, None).await);
        first.input("from one\n").await;
        second.until("from one\n").await;
        second.input("from two\n").await;
        first.until("from two\n").await;
        second.send(ProcessInput::Close).await;
        assert_eq!((first.code().await, second.code().await), (0, 0));
        assert_eq!(first.output, b"from one\nfrom two\nend\n");
        assert_eq!(second.output, first.output);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    in_time(async {
        let agent = Agent::new().await;
        let mut expected = String::new();
        (1..=20_000).for_each(|number| writeln!(expected, "{number}").unwrap());
        agent.client().await.start(script("read go; seq 1 20000")).await.unwrap();
        let (mut seen, mut output) = (0, Vec::new());
        for round in 0.. {
            let client = agent.client().await;
            let mut process = client.attach(seen, None).await;
            if round == 0 {
                process.input("go\n").await;
            }
            // A few messages, then the network is gone, whatever is on its way.
            let mut ended = false;
            for _ in 0..2 {
                ended |= process.next().await.is_err();
                if ended {
                    break;
                }
            }
            seen += process.seen;
            output.extend(process.output);
            assert_eq!(process.skipped, 0);
            if ended {
                break;
            }
            client.vanish().await;
        }
        assert!(output == expected.as_bytes(), "{} of {} bytes", output.len(), expected.len());
    })
    .await;
}

#[tokio::test]
async fn what_the_scrollback_lost_is_counted() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(script("head -c 1000000 /dev/zero | tr '\\0' x; echo; cat")).await.unwrap();
        let mut first = client.attach(0, None).await;
        first.until("x\n").await;
        let mut late = client.attach(0, None).await;
        late.until("x\n").await;
        assert_eq!(late.skipped + late.output.len() as u64, 1_000_001);
        assert!((128 * 1024..=256 * 1024).contains(&late.output.len()), "{}", late.output.len());
    })
    .await;
}

#[tokio::test]
async fn an_offset_of_an_earlier_command_begins_anew() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(script("echo new")).await.unwrap();
        let mut process = client.attach(1_000_000, None).await;
        assert_eq!(process.code().await, 0);
        assert_eq!(process.output, b"new\n");
    })
    .await;
}

#[tokio::test]
async fn the_terminal_has_the_clients_size() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let spec =
            on_terminal("trap 'stty size; exit 0' WINCH; stty size; while :; do read line; stty size; done");
        client.start(spec).await.unwrap();
        let mut process = client.attach(0, None).await;
        process.until("24 80").await;
        process.send(ProcessInput::Resize(TerminalSize { rows: 50, columns: 132 })).await;
        process.until("50 132").await;
        assert_eq!(process.code().await, 0, "the program is told");

        client.start(on_terminal("while read line; do stty size; done")).await.unwrap();
        let mut process = client.attach(0, Some(TerminalSize { rows: 7, columns: 9 })).await;
        process.input("now\n").await;
        process.until("7 9").await;
    })
    .await;
}

#[tokio::test]
async fn the_end_of_input_reaches_the_command() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        for (spec, input, output) in [
            (script("cat; echo end"), "a\nb", "a\nbend\n"),
            (on_terminal("stty -echo; echo go; cat; echo end"), "a\n", "go\r\na\r\nend\r\n"),
            (on_terminal("stty -echo; echo go; cat; echo end"), "a\nb", "go\r\na\r\nbend\r\n"),
        ] {
            let is_terminal = spec.terminal.is_some();
            client.start(spec).await.unwrap();
            let mut process = client.attach(0, None).await;
            if is_terminal {
                process.until("go\r\n").await;
            }
            process.input(input).await;
            process.send(ProcessInput::Close).await;
            assert_eq!(process.code().await, 0);
            assert_eq!(String::from_utf8_lossy(&process.output), output, "{input:?}");
            assert_eq!(process.errors, b"");
        }
    })
    .await;
}

#[tokio::test]
async fn signals_reach_the_foreground_group() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let trap = "trap 'echo got; exit 3' INT; echo ready; while :; do sleep 0.05; done";
        for spec in [script(trap), on_terminal(trap)] {
            client.start(spec).await.unwrap();
            let mut process = client.attach(0, None).await;
            process.until("ready").await;
            process.send(ProcessInput::Signal(INT)).await;
            assert_eq!(process.code().await, 3);
            process.until("got").await;
        }
        // A shell with job control: the job in front gets it, the shell does not.
        let spec = on_terminal("set -m; sh -c 'echo in front; sleep 100'; echo code $?");
        client.start(spec).await.unwrap();
        let mut process = client.attach(0, None).await;
        process.until("in front").await;
        process.send(ProcessInput::Signal(TERM)).await;
        assert_eq!(process.code().await, 0);
        process.until("code 143").await;
        // Numbers that are no signals do nothing.
        client.start(script("echo ready; cat")).await.unwrap();
        let mut process = client.attach(0, None).await;
        process.until("ready").await;
        for number in [0, -1, -9, 99, i32::MAX, i32::MIN] {
            process.send(ProcessInput::Signal(number)).await;
        }
        process.send(ProcessInput::Close).await;
        assert_eq!(process.code().await, 0);
    })
    .await;
}

#[tokio::test]
async fn signals_and_sizes_overtake_input_that_nobody_reads() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        for spec in
            [script("echo ready; exec sleep 100"), on_terminal("stty raw; echo ready; exec sleep 100")]
        {
            client.start(spec).await.unwrap();
            let mut process = client.attach(0, None).await;
            process.until("ready").await;
            // More than a pipe or a terminal takes.
            for _ in 0..6 {
                process.send(ProcessInput::Input(vec![b'x'; 64 * 1024])).await;
            }
            process.send(ProcessInput::Signal(TERM)).await;
            assert_eq!(process.end().await, Ok(ExitStatus::Signal(TERM)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_is_the_end_of_a_command() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        for (spec, expected) in [
            (script("kill -KILL $$"), ExitStatus::Signal(9)),
            (on_terminal("kill -TERM $$"), ExitStatus::Signal(TERM)),
            (script("exit 255"), ExitStatus::Code(255)),
        ] {
            client.start(spec).await.unwrap();
            assert_eq!(client.attach(0, None).await.end().await, Ok(expected));
            assert_eq!(client.status().await.process, ProcessState::Exited(expected));
        }
        // In the moment before it has a terminal and group of its own it can be reached too.
        let mut process = client.exec(on_terminal("exec sleep 100")).await;
        process.send(ProcessInput::Signal(TERM)).await;
        assert_eq!(process.end().await, Ok(ExitStatus::Signal(TERM)));
    })
    .await;
}

#[tokio::test]
async fn the_end_comes_after_all_output() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        for text in ["seq 1 100000", "stty -opost; seq 1 100000"] {
            let spec = if text.starts_with("stty") { on_terminal(text) } else { script(text) };
            let mut process = client.exec(spec).await;
            assert_eq!(process.code().await, 0);
            assert_eq!(process.output.len(), 588_895);
            assert!(process.output.ends_with(b"\n99999\n100000\n"));
        }
        // The same for the command, which does not wait for clients.
        client.start(script("seq 1 200000")).await.unwrap();
        let mut process = client.attach(0, None).await;
        assert_eq!(process.code().await, 0);
        assert_eq!(process.output.len() as u64 + process.skipped, 1_288_895);
        assert!(process.output.ends_with(b"\n199999\n200000\n"));
    })
    .await;
}

#[tokio::test]
async fn who_is_left_behind_keeps_nobody_waiting() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        for spec in [
            script("sleep 9 & echo done"),
            on_terminal("trap '' HUP; sleep 9 & echo done"),
            // Those that write for ever, faster than we read.
            script("for i in 1 2 3 4 5 6 7 8; do yes & done; echo done"),
        ] {
            client.start(spec).await.unwrap();
            let mut process = client.attach(0, None).await;
            assert_eq!(process.code().await, 0);
            // The agent still answers.
            client.status().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_may_close_its_output_and_go_on() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let text = "trap 'exit 5' TERM; echo ready; exec >&- 2>&-; while :; do sleep 0.05; done";
        client.start(script(text)).await.unwrap();
        let mut process = client.attach(0, None).await;
        process.until("ready").await;
        process.send(ProcessInput::Signal(TERM)).await;
        assert_eq!(process.code().await, 5);

        let text =
            "echo one; exec </dev/null >/dev/null 2>&1; sleep 0.3; echo two >/dev/tty; sleep 0.3; exit 6";
        client.start(on_terminal(text)).await.unwrap();
        let mut process = client.attach(0, None).await;
        assert_eq!(process.code().await, 6);
        assert_eq!(process.output, b"one\r\ntwo\r\n");
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_started_is_refused() {
    in_time(async {
        let agent = Agent::new().await;
        let plain = agent.temp.path().join("plain");
        std::fs::write(&plain, "not a program").unwrap();
        let broken = agent.temp.path().join("broken");
        std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
        let client = agent.client().await;
        for (argv, workdir, errno) in [
            (vec!["no-such-program"], None, 2),
            (vec!["/no/such/program"], None, 2),
            (vec![], None, 2),
            (vec!["sh\0"], None, 2),
            (vec![plain.to_str().unwrap()], None, 13),
            (vec!["/"], None, 13),
            (vec![broken.to_str().unwrap()], None, 2),
            (vec!["true"], Some("/no/such/folder"), 20),
            (vec!["true"], Some(plain.to_str().unwrap()), 20),
        ] {
            let spec = ProcessSpec {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                environment: Vec::new(),
                workdir: workdir.map(str::to_owned),
                terminal: None,
            };
            let refusal = client.start(spec.clone()).await.unwrap_err();
            assert_eq!(refusal.errno, errno, "{argv:?} {refusal}");
            let refusal = client.exec(spec).await.end().await.unwrap_err();
            assert_eq!(refusal.errno, errno, "{argv:?} {refusal}");
            assert_eq!(client.status().await.process, ProcessState::Idle);
        }
        // On a terminal the missing interpreter is found too late for a refusal, and said there.
        let mut spec = on_terminal("");
        spec.argv = vec![broken.to_str().unwrap().to_owned()];
        let mut process = client.exec(spec).await;
        assert_eq!(process.code().await, 126);
        process.until("can't start").await;
    })
    .await;
}

#[tokio::test]
async fn environment_and_workdir_are_the_specs() {
    in_time(async {
        let agent = Agent::new().await;
        std::fs::create_dir(agent.temp.path().join("sub")).unwrap();
        let tool = agent.temp.path().join("sub/tool");
        std::fs::write(&tool, "#!/bin/sh\necho \"$0|$1|$PWD|$KEY|$(pwd)\"\n").unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let sub = agent.temp.path().canonicalize().unwrap().join("sub");
        let client = agent.client().await;
        for terminal in [None, Some(TerminalSize { rows: 2, columns: 500 })] {
            for (program, workdir) in
                [("./tool", "sub"), ("tool", sub.to_str().unwrap()), ("sub/tool", "sub/..")]
            {
                let spec = ProcessSpec {
                    argv: vec![program.to_owned(), "a b".to_owned()],
                    environment: vec![
                        ("KEY".to_owned(), "ignored".to_owned()),
                        ("KEY".to_owned(), "value".to_owned()),
                        ("PATH".to_owned(), format!("{}:/usr/bin:/bin", sub.display())),
                    ],
                    workdir: Some(workdir.to_owned()),
                    terminal,
                };
                let mut process = client.exec(spec).await;
                assert_eq!(process.code().await, 0, "{program}");
                let output = String::from_utf8(process.output).unwrap();
                let fields: Vec<_> = output.trim_end().split('|').collect();
                assert_eq!(fields[1], "a b");
                assert_eq!(fields[3], "value");
                assert!(fields[0].ends_with("tool") && fields[4].starts_with('/'), "{output}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn stop_asks_then_kills() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        assert_eq!(client.ask(ControlRequest::Stop { grace_milliseconds: 0 }).await, ControlReply::Stopped);

        client
            .start(script("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done"))
            .await
            .unwrap();
        let mut process = client.attach(0, None).await;
        process.until("ready").await;
        assert_eq!(
            client.ask(ControlRequest::Stop { grace_milliseconds: 20_000 }).await,
            ControlReply::Stopped
        );
        assert_eq!(client.status().await.process, ProcessState::Exited(ExitStatus::Code(4)));
        assert_eq!(process.code().await, 4);
        process.until("bye").await;

        for spec in [
            script("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
            on_terminal("trap '' TERM; echo ready; while :; do sleep 0.05; done"),
        ] {
            client.start(spec.clone()).await.unwrap();
            client.attach(0, None).await.until("ready").await;
            let questions = [
                ControlRequest::Stop { grace_milliseconds: 100 },
                ControlRequest::Status,
                ControlRequest::Start(script("exit 0")),
            ];
            let replies = client.ask_all(&questions).await;
            assert_eq!(replies[0], ControlReply::Stopped);
            let ControlReply::Status(status) = &replies[1] else { panic!("{replies:?}") };
            assert_eq!(status.process, ProcessState::Exited(ExitStatus::Signal(9)));
            assert_eq!(replies[2], ControlReply::Started(Started::Now));
            client.attach(0, None).await.code().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_command_outlives_its_clients() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(on_terminal("echo ready; cat")).await.unwrap();
        let mut process = client.attach(0, None).await;
        process.until("ready").await;
        client.vanish().await;
        let client = agent.client().await;
        let ProcessState::Running { pid } = client.status().await.process else { panic!("ended") };
        assert!(is_alive(pid));
        client.ask(ControlRequest::Stop { grace_milliseconds: 5000 }).await;
        until("its end", || (!is_alive(pid)).then_some(())).await;
    })
    .await;
}

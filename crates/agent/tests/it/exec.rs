//! Processes beside the command, which end with their channel.

use std::time::Duration;

use towline_protocol::{ExitStatus, ProcessInput};

use crate::stand::{Agent, in_time, is_alive, on_terminal, script, until};

/// Reads the number that a script printed first.
fn number(output: &[u8]) -> u32 {
    String::from_utf8_lossy(output).lines().next().unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn an_exec_has_its_own_input_and_output() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let mut process = client.exec(script("cat; echo bad >&2; exit 7")).await;
        process.input("good\n").await;
        process.send(ProcessInput::Close).await;
        assert_eq!(process.code().await, 7);
        assert_eq!((&*process.output, &*process.errors), (&b"good\n"[..], &b"bad\n"[..]));
        let mut process = client.exec(on_terminal("tty && stty size")).await;
        assert_eq!(process.code().await, 0);
        process.until("24 80").await;
    })
    .await;
}

#[tokio::test]
async fn an_exec_ends_with_its_channel() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let (silent, stubborn) =
            ("echo $$; exec sleep 100", "trap '' HUP; echo $$; while :; do sleep 0.05; done");
        let flooding =
            "trap '' HUP; echo $$; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
        let descriptors = agent.descriptors();
        let mut processes = Vec::new();
        for text in [silent, stubborn, flooding] {
            for spec in [script(text), on_terminal(text)] {
                let mut process = client.exec(spec).await;
                process.until("\n").await;
                processes.push(process);
            }
        }
        let pids: Vec<_> = processes.iter().map(|process| number(&process.output)).collect();
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        drop(processes);
        until("their end", || (!pids.iter().any(|pid| is_alive(*pid))).then_some(())).await;
        // Nothing of them stays, although nobody has taken what they wrote.
        until("closed descriptors", || (agent.descriptors() <= descriptors).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn an_exec_ends_with_its_link() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let mut process = client.exec(script("trap '' HUP; echo $$; while :; do sleep 0.05; done")).await;
        process.until("\n").await;
        client.vanish().await;
        let pid = number(&process.output);
        until("its end", || (!is_alive(pid)).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_hung_up_process_may_say_goodbye() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let note = agent.temp.path().join("note");
        let text = format!(
            "trap 'echo bye > {}; exit' HUP; echo ready; while :; do sleep 0.05; done",
            note.display()
        );
        let mut process = client.exec(script(&text)).await;
        process.until("ready").await;
        drop(process);
        until("the note", || std::fs::read(&note).ok().filter(|words| words == b"bye\n")).await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        let mut process = client.exec(script("seq 1 500000; echo end >&2")).await;
        // It fills all that is on the way, and then waits for us.
        process.next().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(process.end().await, Ok(ExitStatus::Code(0)));
        assert_eq!(process.skipped, 0);
        assert_eq!(process.output.len(), 3_388_895);
        assert!(process.output.ends_with(b"\n499999\n500000\n"));
        assert_eq!(process.errors, b"end\n");
    })
    .await;
}

#[tokio::test]
async fn a_thousand_channels_leave_nothing_open() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(script("cat")).await.unwrap();
        // What is opened once and kept.
        client.exec(on_terminal("true")).await.code().await;
        client.status().await;
        let before = agent.descriptors();
        for round in 0..250 {
            let terminal = if round % 2 == 0 { on_terminal("exit 3") } else { script("exit 3") };
            assert_eq!(client.exec(terminal).await.code().await, 3);
            drop(client.exec(script("exec sleep 100")).await);
            drop(client.attach(0, None).await);
            client.status().await;
        }
        until("closed descriptors", || (agent.descriptors() <= before).then_some(())).await;
        let threads = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count();
        assert!(threads <= 3, "{threads} threads");
    })
    .await;
}

//! What a process is given by the agent, and what not.

use std::collections::BTreeSet;

use towline_protocol::{ControlReply, ControlRequest};

use crate::stand::{Agent, in_time, on_terminal, script};

/// Runs a script and returns the lines it printed.
async fn lines(agent: &Agent, text: &str, terminal: bool) -> Vec<String> {
    let client = agent.client().await;
    let mut process = client.exec(if terminal { on_terminal(text) } else { script(text) }).await;
    assert_eq!(process.code().await, 0);
    let output = String::from_utf8(process.output).unwrap();
    output.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[tokio::test]
async fn only_its_own_three_descriptors() {
    in_time(async {
        let agent = Agent::new().await;
        let client = agent.client().await;
        client.start(on_terminal("cat")).await.unwrap();
        client.start(script("cat")).await.unwrap();
        // What this test was started with itself is not the agent's doing.
        let own = std::process::Command::new("sh").args(["-c", "ls /proc/self/fd"]).output().unwrap().stdout;
        let own = String::from_utf8(own).unwrap();
        for terminal in [false, true] {
            let found = lines(&agent, "ls /proc/self/fd", terminal).await;
            let found: BTreeSet<_> = found.iter().flat_map(|line| line.split_whitespace()).collect();
            assert_eq!(found, own.split_whitespace().collect(), "terminal {terminal}");
        }
    })
    .await;
}

#[tokio::test]
async fn default_signals_whatever_the_agent_was_given() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        // As nohup and a shell's background leave it.
        let agent = Agent::start(temp, run_dir, |command| {
            let line = "trap '' HUP INT QUIT TERM PIPE; exec \"$0\" \"$@\"";
            let arguments: Vec<_> = command.as_std().get_args().map(ToOwned::to_owned).collect();
            let program = command.as_std().get_program().to_owned();
            let folder = command.as_std().get_current_dir().unwrap().to_owned();
            *command = tokio::process::Command::new("sh");
            command.kill_on_drop(true).current_dir(folder);
            command.arg("-c").arg(line).arg(program).args(arguments);
        })
        .await;
        for terminal in [false, true] {
            let found = lines(&agent, "exec grep -E 'Sig(Blk|Ign)' /proc/self/status", terminal).await;
            assert_eq!(found.len(), 2);
            for line in found {
                let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
                // Above 31 are those that the C library keeps for itself.
                assert_eq!(mask & 0x7fff_ffff, 0, "{line}, terminal {terminal}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_containers_environment_and_mask() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let agent = Agent::start(temp, run_dir, |command| {
            command.env_clear().env("PATH", "/usr/bin:/bin").env("ONE", "1");
        })
        .await;
        for terminal in [false, true] {
            let found = lines(&agent, "umask; exec env", terminal).await;
            let names: BTreeSet<_> =
                found[1..].iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
            assert_eq!(found[0], String::from_utf8(umask()).unwrap().trim());
            let own = BTreeSet::from(["OLDPWD", "ONE", "PATH", "PWD", "SHLVL", "_"]);
            assert!(names.is_subset(&own) && names.contains("ONE"), "{names:?}");
        }
    })
    .await;
}

fn umask() -> Vec<u8> {
    std::process::Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout
}

#[tokio::test]
async fn a_session_of_its_own_on_a_terminal_and_a_group_with_pipes() {
    in_time(async {
        let agent = Agent::new().await;
        // Fields of proc_pid_stat(5): 1 pid, 5 group, 6 session, 7 terminal, 8 foreground group.
        let text = "exec cut -d' ' -f1,5,6,7,8 /proc/self/stat";
        let found = lines(&agent, text, true).await;
        let fields: Vec<i64> = found[0].split(' ').map(|field| field.parse().unwrap()).collect();
        assert!(fields[0] == fields[1] && fields[0] == fields[2] && fields[0] == fields[4], "{fields:?}");
        assert_ne!(fields[3], 0, "the controlling terminal");
        let found = lines(&agent, text, false).await;
        let fields: Vec<i64> = found[0].split(' ').map(|field| field.parse().unwrap()).collect();
        assert!(fields[0] == fields[1], "{fields:?}");
    })
    .await;
}

#[tokio::test]
async fn the_containers_environment_as_it_was_started() {
    in_time(async {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join("run");
        std::fs::create_dir(&run_dir).unwrap();
        let agent = Agent::start(temp, run_dir, |command| {
            command.env_clear().env("TOKEN", "a=b\nc").env("EMPTY", "");
        })
        .await;
        let client = agent.client().await;
        let reply = client.ask(ControlRequest::Environment).await;
        let ControlReply::Environment(bytes) = reply else { panic!("{reply:?}") };
        let mut variables: Vec<_> = bytes.split_inclusive(|byte| *byte == 0).collect();
        variables.sort_unstable();
        assert_eq!(variables, [b"EMPTY=\0".as_slice(), b"TOKEN=a=b\nc\0"]);
    })
    .await;
}

//! The life of a session once its objects stand, as one pure state machine.
//!
//! The driver feeds it what the cluster, the stream, the folders and the user's command did, and carries out the
//! effects. It holds no clock, no socket and no file: time is an argument, counted from the session's start.

use std::time::Duration;

use towline_protocol::{ExitStatus, ProcessState};

use crate::again::Again;
use crate::event::{Ending, Event, State};
use crate::pod::{PodPhase, PodView};
use crate::request::OnChange;

/// Scale-backs that are undone within [`REPARK_WINDOW`]; after that the controller has won and the user is told.
pub const REPARK_LIMIT: usize = 3;
/// The window of [`REPARK_LIMIT`].
pub const REPARK_WINDOW: Duration = Duration::from_mins(10);

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Reasons that no waiting mends: the kubelet has tried more than once, or will never try.
const HOPELESS: &[&str] =
    &["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RunContainerError", "StartError"];

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The dev pod was seen; `None` when there is none.
    Pod(Option<PodView>),
    /// The clone can't make a pod (quota, Pod Security); the ReplicaSet's words.
    CannotCreatePod(String),
    /// The agent answered on a new stream.
    Connected {
        /// The agent's instance: another one is another start of the container.
        instance: [u8; 16],
        /// The user's command there.
        process: ProcessState,
    },
    /// The agent could not be reached, or the stream broke.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// A folder's both sides are open and looked through; its transfer begins.
    FolderScanned(usize),
    /// A folder is in sync.
    FolderInSync(usize),
    /// The user's command runs, as asked by [`Effect::StartProcess`].
    ProcessStarted,
    /// The user's command could not be started.
    ProcessFailed {
        /// Why.
        message: String,
        /// The code a shell would give: 127 not found, 126 not executable.
        code: i32,
    },
    /// The user's command ended.
    ProcessExited(ExitStatus),
    /// The original was seen with this many replicas; `None` when it is gone.
    Original {
        /// `spec.replicas`.
        replicas: Option<u64>,
        /// Who wrote them, from managedFields.
        by: Option<String>,
    },
    /// Somebody else changed the original's pod template, or what goes with it.
    Changed {
        /// Who, from managedFields.
        by: Option<String>,
        /// Whether nothing of ours is left in it.
        undone: bool,
    },
    /// The change asked for by [`Effect::TakeUp`] was made.
    TakenUp,
    /// The change was not possible.
    TakeUpFailed {
        /// Why.
        message: String,
    },
    /// The scale-down asked for by [`Effect::Park`] was made.
    Parked,
    /// The scale-down was not possible.
    ParkFailed {
        /// Why.
        message: String,
    },
    /// The Lease is gone or someone else's.
    LeaseLost {
        /// Who holds it now, in words.
        message: String,
    },
    /// Time passed; wanted about once a second.
    Tick,
    /// Something that no waiting mends.
    Impossible {
        /// What.
        message: String,
    },
    /// The user leaves.
    Leave,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Reach the agent in this pod after a pause.
    Connect {
        /// The pod's name.
        pod: String,
        /// How long to wait first.
        after: Duration,
    },
    /// Let go of the stream and of attempts to open one.
    Disconnect,
    /// Open all folders on the new stream.
    OpenFolders,
    /// Start the user's command.
    StartProcess,
    /// Take up the running command's input and output.
    Attach,
    /// Scale the original down, under the Lease.
    Park,
    /// Bring the template that somebody else changed back into dev mode, under the Lease.
    TakeUp,
    /// Tell.
    Report(Event),
    /// The session is over.
    End(Ending),
}

/// The stream to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stream {
    Down,
    Opening,
    Up,
}

/// The user's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Unknown,
    Starting,
    Running,
    Exited,
}

/// What a session does to the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is turned off while the clone runs.
    Off {
        /// Whether it was turned off before the clone was made.
        parked: bool,
    },
    /// Nothing: the clone runs beside it.
    Beside,
    /// Its own template is changed, and this is done when somebody else changes it.
    Template(OnChange),
}

/// The original workload, as far as it is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Original {
    /// Never touched.
    Beside,
    /// Its template is ours as long as nobody else changes it.
    Template(OnChange),
    /// Not scaled down yet.
    Untouched,
    /// Scaled down by us.
    Parked,
    /// Scaled up again by someone too often to be countered.
    LeftAlone,
}

/// The machine. One [`Machine::handle`] for each thing that happens.
#[derive(Debug)]
pub struct Machine {
    state: State,
    pod: Option<PodView>,
    stream: Stream,
    failures: u32,
    instance: Option<[u8; 16]>,
    folders: Vec<bool>,
    process: Process,
    /// A write to the original is on its way.
    writing: bool,
    original: Original,
    reparks: Vec<Duration>,
    /// How long the pod may take to run for the first time, and what was in its way when last seen.
    patience: Duration,
    obstacle: Option<String>,
    /// How long the agent may take to answer for the first time, and since when the pod runs without its doing so.
    answer: Duration,
    silent_since: Option<Duration>,
    was_ready: bool,
    life: Life,
    /// When the user's command is started again; `None`: its end is the session's.
    again: Option<Again>,
}

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Going,
    Over,
    /// Over, and dev mode is to be undone with it.
    Undone,
}

impl Machine {
    /// Begins with the objects written: the clone stands, no pod has been seen.
    ///
    /// `hold` is what is done to the original; `reparks` are the times of earlier scale-backs that still count;
    /// `patience` is how long the pod may take to run for the first time, `answer` how long its agent may then take.
    pub fn new(
        folders: usize,
        hold: Hold,
        reparks: Vec<Duration>,
        patience: Duration,
        answer: Duration,
    ) -> Self {
        Self {
            state: State::Activating,
            pod: None,
            stream: Stream::Down,
            failures: 0,
            instance: None,
            folders: vec![false; folders],
            process: Process::Unknown,
            writing: false,
            original: match hold {
                Hold::Off { parked: true } => Original::Parked,
                Hold::Off { parked: false } => Original::Untouched,
                Hold::Beside => Original::Beside,
                Hold::Template(on_change) => Original::Template(on_change),
            },
            reparks,
            patience,
            obstacle: None,
            answer,
            silent_since: None,
            was_ready: false,
            life: Life::Going,
            again: None,
        }
    }

    /// Has the user's command started again whenever it ends.
    pub fn start_again(&mut self) {
        self.again = Some(Again::default());
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Tells whether the session was ready at least once: until then a failure is undone whole.
    pub fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// Tells whether what the session wrote is to be undone now that it is over.
    pub fn is_undone(&self) -> bool {
        self.life == Life::Undone
    }

    /// Returns the scale-backs that were undone, as times since the session's start.
    pub fn reparks(&self) -> &[Duration] {
        &self.reparks
    }

    /// Takes in what happened at `now` and returns what is to be done, in order.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        if self.life != Life::Going {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let out = &mut effects;
        match input {
            Input::Pod(view) => self.pod(view, out),
            Input::CannotCreatePod(message) => {
                self.obstacle = Some(message.clone());
                tell(out, Event::Pod { pod: String::new(), reason: "FailedCreate".into(), message });
            }
            Input::Tick => self.tick(now, out),
            Input::Connected { instance, process } => self.connected(instance, &process, out),
            Input::Disconnected { reason } => self.disconnected(reason, out),
            Input::FolderScanned(_) => {
                if self.state < State::Synchronizing {
                    self.enter(State::Synchronizing, out);
                }
            }
            Input::FolderInSync(folder) => {
                if let Some(in_sync) = self.folders.get_mut(folder) {
                    *in_sync = true;
                }
                self.maybe_start(out);
            }
            Input::ProcessStarted => {
                self.process = Process::Running;
                self.again.iter_mut().for_each(|again| again.started(now));
                self.ready(out);
            }
            Input::ProcessFailed { message, code } => match &mut self.again {
                Some(again) if self.was_ready => {
                    again.ended(now);
                    self.process = Process::Exited;
                    tell(out, Event::Warning { message });
                }
                _ => self.end(Ending::Failed { message, code }, out),
            },
            Input::ProcessExited(status) => {
                self.process = Process::Exited;
                tell(out, Event::CommandExited { code: status.code() });
                match &mut self.again {
                    Some(again) => again.ended(now),
                    None => self.end(status.into(), out),
                }
            }
            Input::Original { replicas, by } => self.original(now, replicas, by, out),
            Input::Changed { by, undone } => self.changed(now, by, undone, out),
            Input::TakenUp => self.writing = false,
            Input::Parked => {
                self.writing = false;
                self.original = Original::Parked;
            }
            Input::ParkFailed { message } | Input::TakeUpFailed { message } => {
                self.writing = false;
                tell(out, Event::Warning { message });
            }
            Input::LeaseLost { message } => self.end(Ending::Lost { message }, out),
            Input::Impossible { message } => self.end(Ending::Failed { message, code: 1 }, out),
            Input::Leave => self.end(Ending::Left, out),
        }
        effects
    }

    fn pod(&mut self, view: Option<PodView>, out: &mut Vec<Effect>) {
        let before = self.pod.take();
        self.pod.clone_from(&view);
        let Some(view) = view else {
            if before.is_some() {
                self.stream_gone(out);
                self.enter(State::Starting, out);
            }
            return;
        };
        let same_phase = before.as_ref().is_some_and(|old| old.uid == view.uid && old.phase == view.phase);
        let another = before.as_ref().is_some_and(|old| old.uid != view.uid || old.restarts != view.restarts);
        if another {
            self.stream_gone(out);
        }
        let (state, reason, message) = match &view.phase {
            PodPhase::Scheduling { why } => (State::Starting, "FailedScheduling", why.clone()),
            PodPhase::Attaching { why } => (State::Attaching, "Waiting", why.clone()),
            PodPhase::Pulling { image } => (State::Pulling, "Pulling", Some(image.clone())),
            PodPhase::Restarting { reason } => (State::Starting, "Restarting", Some(reason.clone())),
            PodPhase::Blocked { reason, message } | PodPhase::Ended { reason, message } => {
                (State::Starting, reason.as_str(), Some(message.clone()))
            }
            PodPhase::Running => {
                if self.stream == Stream::Down {
                    self.enter(State::Starting, out);
                    self.connect(out);
                }
                return;
            }
        };
        self.obstacle = message.as_ref().map(|message| format!("{reason}: {message}"));
        if !self.was_ready && HOPELESS.contains(&reason) {
            let message = format!("pod {}: {reason}: {}", view.name, message.unwrap_or_default());
            self.end(Ending::Failed { message, code: 1 }, out);
            return;
        }
        if let Some(message) = message.filter(|_| !same_phase) {
            let pod = view.name.clone();
            tell(out, Event::Pod { pod, reason: reason.to_owned(), message });
        }
        self.stream_gone(out);
        self.enter(state, out);
    }

    fn connect(&mut self, out: &mut Vec<Effect>) {
        let Some(pod) = self.pod.as_ref().filter(|pod| pod.phase == PodPhase::Running) else { return };
        let after = match self.failures {
            0 => Duration::ZERO,
            failures => FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_RETRY),
        };
        self.stream = Stream::Opening;
        out.push(Effect::Connect { pod: pod.name.clone(), after });
    }

    fn connected(&mut self, instance: [u8; 16], process: &ProcessState, out: &mut Vec<Effect>) {
        let restarted = self.instance.is_some_and(|old| old != instance);
        self.stream = Stream::Up;
        self.failures = 0;
        self.instance = Some(instance);
        self.folders.iter_mut().for_each(|in_sync| *in_sync = false);
        let pod = self.pod.as_ref().map(|pod| pod.name.clone()).unwrap_or_default();
        tell(out, Event::Connected { pod, restarted });
        self.enter(State::StartingSync, out);
        out.push(Effect::OpenFolders);
        self.process = match process {
            ProcessState::Running { .. } => {
                out.push(Effect::Attach);
                Process::Running
            }
            ProcessState::Idle | ProcessState::Exited(_) => Process::Unknown,
        };
        self.maybe_start(out);
    }

    fn disconnected(&mut self, reason: String, out: &mut Vec<Effect>) {
        if self.stream == Stream::Down {
            return;
        }
        if self.stream == Stream::Up || self.failures == 3 {
            tell(out, Event::Disconnected { reason: reason.clone() });
        }
        self.stream = Stream::Down;
        self.obstacle = Some(reason);
        self.failures = self.failures.saturating_add(1);
        self.enter(State::Starting, out);
        self.connect(out);
    }

    fn stream_gone(&mut self, out: &mut Vec<Effect>) {
        if self.stream != Stream::Down {
            self.stream = Stream::Down;
            self.failures = 0;
            out.push(Effect::Disconnect);
        }
    }

    /// Starts the command once every folder is in sync, or goes on with the one that runs.
    fn maybe_start(&mut self, out: &mut Vec<Effect>) {
        if self.stream != Stream::Up || !self.folders.iter().all(|in_sync| *in_sync) {
            return;
        }
        match self.process {
            Process::Unknown => {
                self.process = Process::Starting;
                out.push(Effect::StartProcess);
            }
            Process::Running => self.ready(out),
            Process::Starting | Process::Exited => {}
        }
    }

    /// Starts a command that is due, and gives up on a pod that never came, or that runs and never answers.
    fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        if self.process == Process::Exited && self.again.as_mut().is_some_and(|again| again.is_due(now)) {
            self.process = Process::Unknown;
            self.maybe_start(out);
        }
        let runs = self.pod.as_ref().is_some_and(|pod| pod.phase == PodPhase::Running);
        if self.was_ready || !runs || self.stream == Stream::Up {
            self.silent_since = None;
        } else if now.saturating_sub(*self.silent_since.get_or_insert(now)) > self.answer {
            let why = self.obstacle.take().unwrap_or_else(|| "no stream to it could be opened".into());
            let message = format!("the agent did not answer within {} s: {why}", self.answer.as_secs());
            return self.end(Ending::Failed { message, code: 1 }, out);
        }
        if !self.was_ready && self.state < State::StartingSync && now > self.patience {
            let why = self.obstacle.take().unwrap_or_else(|| "the cluster gave no reason".into());
            let message = format!("the dev pod did not run within {} s: {why}", self.patience.as_secs());
            self.end(Ending::Failed { message, code: 1 }, out);
        }
    }

    fn ready(&mut self, out: &mut Vec<Effect>) {
        self.was_ready = true;
        self.enter(State::Ready, out);
        if self.original == Original::Untouched && !self.writing {
            self.writing = true;
            out.push(Effect::Park);
        }
    }

    /// Someone may have scaled the original up while we hold it down.
    fn original(&mut self, now: Duration, replicas: Option<u64>, by: Option<String>, out: &mut Vec<Effect>) {
        match replicas {
            None => self.end(
                Ending::Lost {
                    message: "the original workload was deleted; its dev pod goes with it".into(),
                },
                out,
            ),
            Some(0) if self.original == Original::LeftAlone => self.original = Original::Parked,
            Some(0) => {}
            Some(_) if self.original == Original::Parked && !self.writing => {
                self.reparks.retain(|at| now.saturating_sub(*at) < REPARK_WINDOW);
                if self.reparks.len() < REPARK_LIMIT {
                    self.reparks.push(now);
                    self.writing = true;
                    tell(out, Event::Reparked { times: self.reparks.len(), by });
                    out.push(Effect::Park);
                } else {
                    self.original = Original::LeftAlone;
                    let who = by.map(|by| format!(" by {by}")).unwrap_or_default();
                    let message = format!(
                        "the original was scaled up{who} more than {REPARK_LIMIT} times in ten minutes: it is left \
                         running beside the dev pod, and both get traffic; if a controller does it, dev mode with \
                         --gitops pause keeps it off"
                    );
                    tell(out, Event::Warning { message });
                }
            }
            Some(_) => {}
        }
    }

    /// Somebody else wrote the original's template.
    fn changed(&mut self, now: Duration, by: Option<String>, undone: bool, out: &mut Vec<Effect>) {
        let Original::Template(on_change) = self.original else {
            return tell(out, Event::OriginalChanged { by, then: "noted" });
        };
        if self.writing {
            return;
        }
        let who = by.clone().unwrap_or_else(|| "someone".to_owned());
        self.reparks.retain(|at| now.saturating_sub(*at) < REPARK_WINDOW);
        let why = if undone {
            Some(format!("{who} took the dev container out of the workload"))
        } else if on_change == OnChange::Leave {
            Some(format!("{who} changed the workload"))
        } else if self.reparks.len() >= REPARK_LIMIT {
            Some(format!("{who} changed the workload more than {REPARK_LIMIT} times in ten minutes"))
        } else {
            None
        };
        if let Some(why) = why {
            tell(out, Event::OriginalChanged { by, then: "left" });
            let message = format!("{why}: dev mode is ended, and what they wrote stays");
            return self.end(Ending::Undone { message }, out);
        }
        self.reparks.push(now);
        self.writing = true;
        let then = if on_change == OnChange::Keep { "kept" } else { "rebased" };
        tell(out, Event::OriginalChanged { by, then });
        out.push(Effect::TakeUp);
    }

    fn enter(&mut self, state: State, out: &mut Vec<Effect>) {
        if self.state != state {
            self.state = state;
            tell(out, Event::State { state });
        }
    }

    fn end(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        if matches!(ending, Ending::Failed { .. }) {
            self.enter(State::Failed, out);
        }
        self.life = if matches!(ending, Ending::Undone { .. }) { Life::Undone } else { Life::Over };
        tell(out, Event::Ended { ending: ending.clone() });
        out.push(Effect::End(ending));
    }
}

fn tell(out: &mut Vec<Effect>, event: Event) {
    out.push(Effect::Report(event));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(uid: &str) -> Input {
        Input::Pod(Some(PodView {
            name: format!("pod-{uid}"),
            uid: uid.into(),
            node: Some("node".into()),
            restarts: 0,
            phase: PodPhase::Running,
        }))
    }

    fn waiting(phase: PodPhase) -> Input {
        Input::Pod(Some(PodView { name: "pod-a".into(), uid: "a".into(), node: None, restarts: 0, phase }))
    }

    fn connected(instance: u8, process: ProcessState) -> Input {
        Input::Connected { instance: [instance; 16], process }
    }

    struct World {
        machine: Machine,
        now: Duration,
    }

    impl World {
        fn new() -> Self {
            let (patience, answer) = (Duration::from_mins(2), Duration::from_mins(1));
            let machine = Machine::new(1, Hold::Off { parked: false }, Vec::new(), patience, answer);
            Self { machine, now: Duration::ZERO }
        }

        fn after(&mut self, seconds: u64, input: Input) -> Vec<Effect> {
            self.now += Duration::from_secs(seconds);
            self.machine.handle(self.now, input)
        }

        fn feed(&mut self, input: Input) -> Vec<Effect> {
            self.after(0, input)
        }

        fn ready() -> Self {
            let mut world = Self::new();
            world.feed(running("a"));
            world.feed(connected(1, ProcessState::Idle));
            world.feed(Input::FolderScanned(0));
            world.feed(Input::FolderInSync(0));
            world.feed(Input::ProcessStarted);
            world.feed(Input::Parked);
            assert_eq!(world.machine.state(), State::Ready);
            world
        }
    }

    #[test]
    fn the_straight_way_passes_every_state_and_parks_last() {
        let mut world = World::new();
        let mut seen = Vec::new();
        let mut actions = Vec::new();
        for input in [
            waiting(PodPhase::Scheduling { why: None }),
            waiting(PodPhase::Attaching { why: None }),
            waiting(PodPhase::Pulling { image: "web".into() }),
            running("a"),
            connected(1, ProcessState::Idle),
            Input::FolderScanned(0),
            Input::FolderInSync(0),
            Input::ProcessStarted,
        ] {
            for effect in world.feed(input) {
                match effect {
                    Effect::Report(Event::State { state }) => seen.push(state.name()),
                    Effect::Report(_) => {}
                    other => actions.push(other),
                }
            }
        }
        assert_eq!(
            seen,
            ["starting", "attaching", "pulling", "starting", "startingSync", "synchronizing", "ready"]
        );
        assert_eq!(
            actions,
            [
                Effect::Connect { pod: "pod-a".into(), after: Duration::ZERO },
                Effect::OpenFolders,
                Effect::StartProcess,
                Effect::Park,
            ]
        );
    }

    #[test]
    fn a_broken_stream_is_opened_again_and_the_command_goes_on() {
        let mut world = World::ready();
        let effects = world.feed(Input::Disconnected { reason: "reset".into() });
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Connect { .. })), "{effects:?}");
        let effects = world.feed(connected(1, ProcessState::Running { pid: 7 }));
        assert!(effects.contains(&Effect::Attach), "{effects:?}");
        assert!(!effects.contains(&Effect::StartProcess));
        let effects = world.feed(Input::FolderInSync(0));
        assert_eq!(effects, [Effect::Report(Event::State { state: State::Ready })]);
    }

    #[test]
    fn a_new_pod_gets_the_files_before_the_command() {
        let mut world = World::ready();
        let effects = world.feed(running("b"));
        assert_eq!(effects[0], Effect::Disconnect);
        assert!(
            effects.contains(&Effect::Connect { pod: "pod-b".into(), after: Duration::ZERO }),
            "{effects:?}"
        );
        let effects = world.feed(connected(2, ProcessState::Idle));
        assert!(!effects.contains(&Effect::StartProcess), "{effects:?}");
        assert!(world.feed(Input::FolderInSync(0)).contains(&Effect::StartProcess));
        let effects = world.feed(Input::ProcessStarted);
        assert!(!effects.contains(&Effect::Park), "parked once is enough: {effects:?}");
    }

    #[test]
    fn retries_grow_and_end_with_success() {
        let mut world = World::ready();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            for effect in world.feed(Input::Disconnected { reason: "no".into() }) {
                if let Effect::Connect { after, .. } = effect {
                    pauses.push(after.as_millis());
                }
            }
        }
        assert_eq!(&pauses[..4], [50, 100, 200, 400]);
        assert_eq!(pauses.last(), Some(&5000));
    }

    #[test]
    fn a_controller_is_countered_three_times_in_ten_minutes_and_no_more() {
        let mut world = World::ready();
        let scaled = || Input::Original { replicas: Some(3), by: Some("argocd-controller".into()) };
        for _ in 0..REPARK_LIMIT {
            assert!(world.after(10, scaled()).contains(&Effect::Park));
            world.feed(Input::Parked);
            assert!(world.after(1, Input::Original { replicas: Some(0), by: None }).is_empty());
        }
        let effects = world.after(10, scaled());
        assert!(matches!(effects.as_slice(), [Effect::Report(Event::Warning { .. })]), "{effects:?}");
        assert!(world.feed(scaled()).is_empty(), "told once");
        world.feed(Input::Original { replicas: Some(0), by: None });
        assert!(world.after(600, scaled()).contains(&Effect::Park), "the window has passed");
    }

    #[test]
    fn a_change_of_the_template_is_answered_as_the_user_chose() {
        let changed = |undone| Input::Changed { by: Some("helm".into()), undone };
        let then = |effects: &[Effect]| match effects.first() {
            Some(Effect::Report(Event::OriginalChanged { then, .. })) => *then,
            other => panic!("{other:?}"),
        };
        let begin = |hold| {
            let machine = Machine::new(1, hold, Vec::new(), Duration::from_mins(2), Duration::from_mins(1));
            World { machine, now: Duration::ZERO }
        };
        for (choice, expected) in [(OnChange::Rebase, "rebased"), (OnChange::Keep, "kept")] {
            let mut world = begin(Hold::Template(choice));
            for _ in 0..REPARK_LIMIT {
                let effects = world.after(1, changed(false));
                assert_eq!((then(&effects), effects.last()), (expected, Some(&Effect::TakeUp)));
                assert!(world.feed(changed(false)).is_empty(), "one at a time");
                world.feed(Input::TakenUp);
            }
            let effects = world.after(1, changed(false));
            assert_eq!(then(&effects), "left", "nobody fights a controller");
            assert!(
                matches!(effects.last(), Some(Effect::End(Ending::Undone { message })) if message.contains("helm"))
            );
            assert!(world.machine.is_undone());
        }
        assert_eq!(then(&begin(Hold::Template(OnChange::Leave)).feed(changed(false))), "left");
        assert_eq!(then(&begin(Hold::Template(OnChange::Rebase)).feed(changed(true))), "left");
        let mut world = begin(Hold::Off { parked: true });
        assert_eq!(then(&world.feed(changed(false))), "noted");
        assert!(!world.machine.is_undone());
    }

    #[test]
    fn a_clone_beside_the_original_touches_it_never() {
        let machine =
            Machine::new(0, Hold::Beside, Vec::new(), Duration::from_mins(2), Duration::from_mins(1));
        let mut world = World { machine, now: Duration::ZERO };
        world.feed(running("a"));
        world.feed(connected(1, ProcessState::Idle));
        let effects = world.feed(Input::ProcessStarted);
        assert_eq!(effects, [Effect::Report(Event::State { state: State::Ready })]);
        assert!(world.feed(Input::Original { replicas: Some(3), by: None }).is_empty());
    }

    #[test]
    fn before_the_first_park_the_originals_replicas_are_its_own() {
        let mut world = World::new();
        assert!(world.feed(Input::Original { replicas: Some(3), by: None }).is_empty());
    }

    #[test]
    fn hopeless_images_fail_at_once_and_slow_pods_in_time() {
        let mut world = World::new();
        let blocked = |reason: &str| {
            waiting(PodPhase::Blocked { reason: reason.into(), message: "no such image".into() })
        };
        assert!(!matches!(world.feed(blocked("ErrImagePull")).last(), Some(Effect::End(_))));
        assert!(matches!(
            world.feed(blocked("ImagePullBackOff")).last(),
            Some(Effect::End(Ending::Failed { code: 1, message })) if message.contains("no such image")
        ));
        assert_eq!(world.machine.state(), State::Failed);

        let mut world = World::new();
        world.feed(waiting(PodPhase::Scheduling { why: Some("Insufficient cpu".into()) }));
        assert!(world.after(120, Input::Tick).is_empty());
        assert!(matches!(
            world.after(1, Input::Tick).last(),
            Some(Effect::End(Ending::Failed { message, .. })) if message.contains("Insufficient cpu")
        ));
    }

    #[test]
    fn an_agent_that_never_answers_is_given_up_and_one_that_did_is_not() {
        let mut world = World::new();
        world.feed(running("a"));
        world.feed(Input::Disconnected { reason: "no route".into() });
        assert!(world.feed(Input::Tick).is_empty());
        assert!(world.after(60, Input::Tick).is_empty());
        assert!(matches!(
            world.after(1, Input::Tick).last(),
            Some(Effect::End(Ending::Failed { message, .. })) if message.contains("no route")
        ));

        let mut world = World::new();
        world.feed(running("a"));
        world.feed(Input::Tick);
        world.after(59, connected(1, ProcessState::Idle));
        assert!(world.after(5, Input::Tick).is_empty());
        world.feed(Input::Disconnected { reason: "reset".into() });
        assert!(world.after(50, Input::Tick).is_empty(), "counted anew");

        let mut world = World::ready();
        world.feed(Input::Disconnected { reason: "reset".into() });
        world.feed(Input::Tick);
        assert!(world.after(3600, Input::Tick).is_empty(), "a laptop may sleep");
    }

    #[test]
    fn nothing_happens_after_the_end() {
        for ending in [Input::Leave, Input::LeaseLost { message: "x".into() }] {
            let mut world = World::ready();
            assert!(matches!(world.feed(ending).last(), Some(Effect::End(_))));
            assert!(world.feed(running("c")).is_empty());
        }
    }

    #[test]
    fn a_command_that_is_to_go_on_is_started_again_and_the_session_stays() {
        let mut machine =
            Machine::new(0, Hold::Beside, Vec::new(), Duration::from_mins(2), Duration::from_mins(1));
        machine.start_again();
        let mut at = |seconds: u64, input: Input| machine.handle(Duration::from_secs(seconds), input);
        let starts = |effects: &[Effect]| effects.contains(&Effect::StartProcess);
        at(0, running("1"));
        assert!(starts(&at(1, Input::Connected { instance: [1; 16], process: ProcessState::Idle })));
        at(2, Input::ProcessStarted);
        let ended = at(3, Input::ProcessExited(ExitStatus::Code(1)));
        assert_eq!(ended, [Effect::Report(Event::CommandExited { code: 1 })]);
        assert!(!starts(&at(3, Input::Tick)), "not at once");
        assert!(starts(&at(4, Input::Tick)));
        let failed = at(4, Input::ProcessFailed { message: "gone".into(), code: 127 });
        assert!(!failed.iter().any(|effect| matches!(effect, Effect::End(_))), "{failed:?}");
        assert!(!starts(&at(5, Input::Tick)), "later each time");
        // Who comes back to it starts it once.
        let exited = ProcessState::Exited(ExitStatus::Code(1));
        assert!(starts(&at(5, Input::Connected { instance: [1; 16], process: exited })));
        at(5, Input::ProcessStarted);
        assert!(!starts(&at(60, Input::Tick)));
    }
}

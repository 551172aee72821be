//! The command killed at any moment, the database server killed under it, and a controller that is overtaken while it sleeps:
//! whatever the moment, one more pass puts everything right, and nobody's edit is lost.
//!
//! `TRUEUP_CRASH_RUNS` asks for more runs of each kind, `TRUEUP_CRASH_SEED` for other edits and moments than those of every day.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.
#![allow(clippy::print_stdout)] // How far kills reached is worth a line.

#[path = "server/mod.rs"]
mod server;
#[path = "crashes/world.rs"]
mod world;

use std::process::Child;
use std::time::{Duration, Instant};

use server::{Disk, Server, signal};
use world::{Dice, Kind, Records, World};

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// What repeats a trial of one kind.
struct Trial {
    kind: Kind,
    seed: u64,
    runs: u64,
    /// A world in which everything agrees.
    origin: World,
    /// How long an undisturbed command takes.
    length: Duration,
    /// How many kills came before anything was written, in the middle, and after everything was.
    moments: [u64; 3],
    /// How many edits were put back after a kill.
    reverted: usize,
}

impl Trial {
    fn new(kind: Kind, runs: u64, server: Option<&Server>) -> Self {
        let seed = asked("TRUEUP_CRASH_SEED").unwrap_or(1);
        let runs = asked("TRUEUP_CRASH_RUNS").unwrap_or(runs);
        let mut trial = Self {
            kind,
            seed,
            runs,
            origin: World::agreed(kind, server),
            length: Duration::ZERO,
            moments: [0; 3],
            reverted: 0,
        };
        // The first is slow: the program is read from the disk.
        for run in [u64::MAX, u64::MAX - 1] {
            let world = trial.disturbed(run, server);
            let began = Instant::now();
            assert!(world.begin().wait().unwrap().success(), "{kind:?}: an undisturbed pass");
            trial.length = began.elapsed();
            world.check().unwrap_or_else(|why| panic!("{kind:?}, undisturbed: {why}"));
        }
        println!("{kind:?}: seed {seed}, {runs} runs, an undisturbed one takes {:?}", trial.length);
        trial
    }

    fn dice(&self, run: u64) -> Dice {
        Dice::new(self.seed, run)
    }

    fn disturbed(&self, run: u64, server: Option<&Server>) -> World {
        let mut world = self.origin.copy(self.kind, server);
        world.disturb(&mut self.dice(run));
        world
    }

    /// A moment in which the command is at work.
    fn moment(&self, dice: &mut Dice) -> Duration {
        dice.between(self.length / 4, self.length * 21 / 20)
    }

    /// Kills the command after some time.
    fn kill(&mut self, world: &World, mut child: Child, after: Duration, before: &Records) {
        std::thread::sleep(after);
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        self.note(ended, world, before);
    }

    /// Notes how far the command had come. How long it takes changes with what else the machine does.
    fn note(&mut self, ended: bool, world: &World, before: &Records) {
        let moment = if ended { 2 } else { usize::from(world.canonical() != *before) };
        self.moments[moment] += 1;
        self.length = match moment {
            0 => self.length * 21 / 20,
            1 => self.length,
            _ => self.length * 9 / 10,
        };
    }

    fn verdict(&self, run: u64, world: World, told: &str) {
        if let Err(why) = world.check() {
            let (kind, seed, folder) = (self.kind, self.seed, world.folder().to_owned());
            world.keep();
            panic!("{kind:?}, seed {seed}, run {run}, {told}: {why}\nthe files are in {}", folder.display());
        }
    }

    /// That kills came when there was something to break.
    fn close(&self, what: &str) {
        let [early, middle, late] = self.moments;
        println!(
            "{:?}: {what}: {early} before anything was written, {middle} in the middle, {late} after the end; {} edits put back",
            self.kind, self.reverted
        );
        assert!(
            self.runs < 20 || middle * 10 > self.runs,
            "{:?}: hardly any kill came in the middle",
            self.kind
        );
    }
}

fn killed_commands(kind: Kind, runs: u64, server: Option<&Server>) {
    let mut trial = Trial::new(kind, runs, server);
    for run in 0..trial.runs {
        let mut world = trial.disturbed(run, server);
        let before = world.canonical();
        let mut dice = trial.dice(run ^ 0xdead);
        // Now and then what would have put things right is killed as well.
        let kills = if run % 3 == 0 { 2 } else { 1 };
        let mut moments = Vec::new();
        for _ in 0..kills {
            let after = trial.moment(&mut dice);
            moments.push(after);
            let child = world.begin();
            trial.kill(&world, child, after, &before);
            trial.reverted += world.revert(&mut dice);
        }
        trial.verdict(run, world, &format!("killed after {moments:?}"));
    }
    trial.close("killed");
}

#[test]
fn killed_with_files() {
    killed_commands(Kind::Files, 50, None);
}

#[test]
fn killed_with_postgres() {
    killed_commands(Kind::Postgres, 50, Some(server::shared()));
}

#[test]
fn killed_with_the_state_in_postgres() {
    killed_commands(Kind::PostgresState, 50, Some(server::shared()));
}

fn killed_server(kind: Kind, runs: u64) {
    let mut server = Server::start(Disk::Flushed);
    let mut trial = Trial::new(kind, runs, Some(&server));
    for run in 0..trial.runs {
        let world = trial.disturbed(run, Some(&server));
        let before = world.canonical();
        let mut dice = trial.dice(run ^ 0xbeef);
        let after = trial.moment(&mut dice);
        let mut child = world.begin();
        std::thread::sleep(after);
        let ended = child.try_wait().unwrap().is_some();
        server.kill();
        server.restart();
        child.wait().unwrap();
        trial.note(ended, &world, &before);
        trial.verdict(run, world, &format!("the server killed after {after:?}"));
    }
    trial.close("server killed");
}

#[test]
fn the_server_killed_under_the_stores() {
    killed_server(Kind::Postgres, 15);
}

#[test]
fn the_server_killed_under_stores_and_state() {
    killed_server(Kind::PostgresState, 15);
}

#[test]
fn a_controller_that_slept_through_its_lease_breaks_nothing() {
    let server = Some(server::shared());
    let mut trial = Trial::new(Kind::PostgresState, 20, server);
    for run in 0..trial.runs {
        let mut world = trial.disturbed(run, server);
        let before = world.canonical();
        let mut dice = trial.dice(run ^ 0x51ee);
        let after = trial.moment(&mut dice);
        let mut first = world.begin();
        std::thread::sleep(after);
        signal("STOP", &[first.id()]);
        let ended = first.try_wait().unwrap().is_some();
        trial.note(ended, &world, &before);
        // It may hold locks; then the other one goes on once it has woken up.
        let mut second = world.begin();
        let began = Instant::now();
        while second.try_wait().unwrap().is_none()
            && began.elapsed() < trial.length * 2 + Duration::from_secs(1)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        if second.try_wait().unwrap().is_some() {
            world.disturb_again(&mut dice);
        }
        signal("CONT", &[first.id()]);
        first.wait().unwrap();
        second.wait().unwrap();
        trial.verdict(run, world, &format!("asleep after {after:?}"));
    }
    trial.close("asleep");
}

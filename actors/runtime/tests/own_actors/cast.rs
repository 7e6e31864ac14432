//! The actors of the tests, and the log that tests read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neap_runtime::system::{
    Actor, ChildExit, Context, Exit, Fault, Handle, ItemSender, Never, OnFailure, Placement, Spawn,
};
use serde::{Deserialize, Serialize};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What happened, by the name of the test.
static LOGS: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

pub(crate) fn log(test: &str, line: impl Into<String>) {
    LOGS.lock().unwrap().entry(test.to_owned()).or_default().push(line.into());
}

pub(crate) fn logged(test: &str) -> Vec<String> {
    LOGS.lock().unwrap().get(test).cloned().unwrap_or_default()
}

/// Waits until a test has logged so many lines.
pub(crate) async fn await_lines(test: &str, count: usize) -> Vec<String> {
    let wait = async {
        while logged(test).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        logged(test)
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("only {:?}", logged(test)))
}

/// Counts what it is told, and saves each count.
pub(crate) struct Counter {
    test: String,
    count: u64,
    /// Whom it tells.
    known: Option<Handle<Counter>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// Count so many more.
    Add(u64),
    /// Count so many more, and do not save it.
    Keep(u64),
    /// Panic, each time.
    Poison(u64),
    /// Panic the first time only.
    Stumble(u64),
    /// Handle nothing else for so many milliseconds.
    Sleep(u64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Count,
    Worker,
    /// The count of another one.
    CountOf(Handle<Counter>),
    /// Panic, each time.
    Poison,
    /// Have another one count one more, over the first handle of it that came.
    Tell(Handle<Counter>),
    /// Wait for the end of another one: 0 if it stopped, 1 if it failed, 2 if its supervisor was lost.
    EndOf(Handle<Counter>),
    /// All numbers below.
    Numbers(u64),
    DeadLetters,
}

/// How many items a stream has handed over, over all tests: only one streams.
pub(crate) static SENT: AtomicUsize = AtomicUsize::new(0);

/// Stumbles so far; only one test stumbles.
static STUMBLES: AtomicUsize = AtomicUsize::new(0);

impl Actor for Counter {
    const NAME: &'static str = "counter";
    type Args = String;
    type Cast = Tell;
    type Request = Ask;
    type Reply = u64;
    type Item = u64;

    async fn start(test: String, context: &mut Context) -> Result<Self, Fault> {
        let count = context.restored().await?.unwrap_or_default();
        log(&test, format!("start {}", context.path()));
        Ok(Self { test, count, known: None })
    }

    async fn cast(&mut self, message: Tell, context: &mut Context) -> Result<(), Fault> {
        match message {
            Tell::Add(more) => {
                self.count += more;
                context.save(&self.count).await?;
                log(&self.test, format!("add {more}"));
            }
            Tell::Keep(more) => self.count += more,
            Tell::Poison(number) => panic!("poison {number}"),
            Tell::Stumble(more) => {
                if STUMBLES.fetch_add(1, Ordering::Relaxed) == 0 {
                    return Err("stumbled".into());
                }
                self.count += more;
                log(&self.test, format!("add {more} after a stumble"));
            }
            Tell::Sleep(millis) => {
                log(&self.test, "asleep");
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        Ok(())
    }

    async fn call(&mut self, request: Ask, context: &mut Context) -> Result<u64, Fault> {
        match request {
            Ask::Count => Ok(self.count),
            Ask::Worker => Ok(context.worker().number()),
            Ask::CountOf(other) => Ok(other.call(&Ask::Count, SOON).await?),
            Ask::Tell(other) => {
                self.known.get_or_insert(other).send(&Tell::Keep(1)).await?;
                Ok(0)
            }
            Ask::EndOf(other) => Ok(match other.ended().await? {
                Exit::Stopped => 0,
                Exit::Failed(_) => 1,
                Exit::SupervisorLost => 2,
            }),
            Ask::Poison => panic!("no answer to that"),
            Ask::DeadLetters => Ok(context.system().dead_letters().len() as u64),
            Ask::Numbers(_) => Err("numbers are streamed".into()),
        }
    }

    async fn stream(&mut self, request: Ask, items: ItemSender<u64>, _: &mut Context) -> Result<(), Fault> {
        let Ask::Numbers(below) = request else { return Err("only numbers are streamed".into()) };
        tokio::spawn(async move {
            for number in 0..below {
                if items.send(&number).await.is_err() {
                    log("streams", "reader gone");
                    return;
                }
                SENT.fetch_add(1, Ordering::Relaxed);
            }
            // A reader that is gone does not want to know of the end.
            let _ = items.finish().await;
        });
        Ok(())
    }

    async fn notice(&mut self, left: Duration, context: &mut Context) -> Result<(), Fault> {
        assert!(left > Duration::ZERO && left < SOON, "{left:?}");
        context.save(&self.count).await?;
        log(&self.test, format!("notice {} at {}", context.path(), self.count));
        Ok(())
    }

    async fn stop(&mut self, context: &mut Context) -> Result<(), Fault> {
        log(&self.test, format!("stop {}", context.path()));
        Ok(())
    }
}

/// Starts a counter and says what becomes of it.
pub(crate) struct Parent {
    test: String,
    child: Handle<Counter>,
}

impl Actor for Parent {
    const NAME: &'static str = "parent";
    /// The test, and what happens when the child fails.
    type Args = (String, OnFailure);
    type Cast = Tell;
    type Request = ();
    type Reply = Handle<Counter>;
    type Item = Never;

    async fn start((test, on_failure): (String, OnFailure), context: &mut Context) -> Result<Self, Fault> {
        let spawn = Spawn::named("child").on(Placement::Spread).on_failure(on_failure);
        let child = context.spawn::<Counter>(spawn, &test).await?;
        log(&test, format!("start {}", context.path()));
        Ok(Self { test, child })
    }

    /// Passes it on.
    async fn cast(&mut self, message: Tell, _: &mut Context) -> Result<(), Fault> {
        Ok(self.child.send(&message).await?)
    }

    async fn call(&mut self, (): (), _: &mut Context) -> Result<Handle<Counter>, Fault> {
        Ok(self.child.clone())
    }

    async fn child_exited(&mut self, child: ChildExit, _: &mut Context) -> Result<(), Fault> {
        log(&self.test, format!("{} {}", child.name, child.exit));
        Ok(())
    }

    async fn stop(&mut self, context: &mut Context) -> Result<(), Fault> {
        log(&self.test, format!("stop {}", context.path()));
        Ok(())
    }
}

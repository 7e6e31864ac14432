//! Looking at other processes of this machine by their id.

use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

/// How often a waiting command looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Whether the process still does something. One that has ended and waits for its parent to notice does not.
pub(super) fn is_alive(pid: u32) -> bool {
    let Some(id) = to_pid(pid) else { return false };
    test_kill_process(id).is_ok() && !is_zombie(pid)
}

/// Waits until the process has ended; `false` if it has not by then.
pub(super) fn wait_for_end(pid: u32, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    while is_alive(pid) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The state follows the command's name, which stands in parentheses and may itself hold some.
fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_even_if_nobody_has_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(is_alive(child.id()));
        child.kill().unwrap();
        assert!(wait_for_end(child.id(), Duration::from_secs(10)));
        child.wait().unwrap();
    }

    #[test]
    fn no_process_has_the_id_zero() {
        assert!(!is_alive(0));
    }
}

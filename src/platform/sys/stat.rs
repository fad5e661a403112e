//! What the kernel counts of a thread (proc(5)).

/// Returns a thread's state and its CPU time so far in clock ticks, user and system (proc(5)); `None`
/// where there is no such thread of this process, or no `/proc`.
pub fn thread_state(thread_id: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread_id}/stat")).ok()?;
    parse_stat(&stat)
}

fn parse_stat(stat: &str) -> Option<(char, u64)> {
    // The name comes second, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((state, ticks(11)? + ticks(12)?))
}

/// Returns the unit of CPU times in `/proc` (proc(5)).
pub fn clock_ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_state_is_read_past_any_name() {
        let stat = "12 (predict) 3 S x) R 1 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 6 0";
        assert_eq!(parse_stat(stat), Some(('R', 300)));
        assert_eq!(parse_stat("12 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }
}

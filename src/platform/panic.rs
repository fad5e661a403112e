//! Turns panics into text, so that no panic ends a thread that can go on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `body` and turns a panic into its message.
///
/// A panic's payload may itself panic when dropped; that is caught too.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let message = panic_message(payload.as_ref());
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        message
    })
}

/// Returns the text of a panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Fuse);
        }
    }

    struct Fuse;

    #[test]
    fn a_panic_is_its_message_and_a_payload_that_panics_is_defused() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(
            catch(|| -> u8 { panic!("row {}", 3) }),
            Err("row 3".to_owned())
        );
        assert_eq!(
            catch(|| -> u8 { std::panic::panic_any(Bomb) }),
            Err("no message".to_owned())
        );
    }
}

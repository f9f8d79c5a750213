//! How is a panic that the product catches told from one that it does not?
//!
//! The Parquet reader panics on some damaged files and the product catches that. A fuzzer ends the program at every panic,
//! caught or not, so its hook is held back meanwhile; what comes through to here is then raised anew.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static HELD_BACK: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs what may panic inside, and panics only where a panic came out of it, with its place.
pub(crate) fn panics_may_be_caught(run: impl FnOnce()) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if HELD_BACK.get() {
                LAST.set(panic.to_string());
            } else {
                before(panic);
            }
        }));
    });
    HELD_BACK.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    HELD_BACK.set(false);
    assert!(outcome.is_ok(), "not caught: {}", LAST.take());
}

//! How are matrices multiplied with the tile registers of AMX?
//!
//! A tile holds sixteen rows of 64 bytes. One instruction multiplies a tile of activations, `[16 rows, 64 inputs]`, with a
//! tile of weights, `[16 groups, 16 outputs, 4 inputs]`, into a tile of sums, `[16 rows, 16 outputs]`. Brain floating point
//! numbers are half as many in the same bytes, so the loops differ in that instruction alone. The compiler knows
//! nothing of tiles on the stable toolchain, so whole loops are written in assembly: no value lives in a tile register from
//! one block of assembly to the next, except the configuration, which [`Tiles`] sets and takes back.

#![allow(unsafe_code)]

use super::{Block, PANEL, TILE, brains::BrainBlock};
use std::{
    arch::{asm, x86_64::__cpuid_count},
    marker::PhantomData,
    sync::LazyLock,
};

/// Bytes from one row of a tile to the next.
const TILE_ROW: usize = super::STEP;
/// Bytes from one row of sums to the next.
const SUM_ROW: usize = PANEL * 4;

/// Whether the processor has byte tiles and the system lets this process use them.
pub(super) fn is_here() -> bool {
    static HERE: LazyLock<bool> = LazyLock::new(|| {
        let leaf = __cpuid_count(7, 0);
        let (tile, int8) = (leaf.edx >> 24 & 1 == 1, leaf.edx >> 25 & 1 == 1);
        super::vnni::is_here() && tile && int8 && ask_the_system()
    });
    *HERE
}

/// Whether the processor multiplies tiles of brain floating point numbers too.
pub(super) fn have_brains() -> bool {
    static HERE: LazyLock<bool> = LazyLock::new(|| is_here() && __cpuid_count(7, 0).edx >> 22 & 1 == 1);
    *HERE
}

/// Asks the system for the tile registers; it keeps room for them in every thread from then on.
#[cfg(target_os = "linux")]
fn ask_the_system() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing in this program's memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems have other ways; without one the tiles stay unused.
#[cfg(not(target_os = "linux"))]
fn ask_the_system() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles of this thread in full size, until it is dropped.
pub(super) struct Tiles {
    /// The configuration belongs to one thread.
    _not_send: PhantomData<*const ()>,
}

impl Tiles {
    pub(super) fn configure() -> Self {
        assert!(is_here(), "tiles are used only where they are");
        static FULL: Configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
            rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        // SAFETY: the processor has tiles and the system allows them, as asserted; the configuration is 64 bytes long, valid
        // for palette 1, and only read.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const FULL, options(nostack, readonly, preserves_flags));
        }
        Self { _not_send: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: this thread has configured its tiles and keeps no value in them.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Sums the products of a block whose lengths [`super::Kernel::run`] has checked, on a thread whose tiles are configured.
pub(super) fn run(block: Block<'_>) {
    let Block { activations, weights, steps, sums, .. } = block;
    // SAFETY: `is_here` held when the tiles were configured, which `PackedWeights::multiply` does before it calls.
    // `activations` holds one or two rows of `steps` tiles, `weights` holds `steps · 4` tiles, and `sums` holds 32 rows of
    // 64, as `Kernel::run` asserted.
    unsafe {
        let (rows, weights, sums) = (activations.as_ptr(), weights.as_ptr().cast(), sums.as_mut_ptr());
        if activations.len() == steps * TILE {
            bytes::one_row_of_tiles(rows, weights, sums.cast(), steps);
        } else {
            bytes::two_rows_of_tiles(rows, weights, sums.cast(), steps);
            bytes::two_rows_of_tiles(rows, weights.add(2 * TILE), sums.add(PANEL / 2).cast(), steps);
        }
    }
}

/// The same for brain floating point numbers, where [`have_brains`] holds and [`super::Kernel::run_brains`] has checked.
pub(super) fn run_brains(block: BrainBlock<'_>) {
    let Block { activations, weights, steps, sums, .. } = block;
    // SAFETY: as in `run`; `have_brains` was asked before, and the lengths are those of the same tiles in bytes.
    unsafe {
        let (rows, weights, sums) = (activations.as_ptr().cast(), weights.as_ptr().cast(), sums.as_mut_ptr());
        if size_of_val(activations) == steps * TILE {
            brains::one_row_of_tiles(rows, weights, sums.cast(), steps);
        } else {
            brains::two_rows_of_tiles(rows, weights, sums.cast(), steps);
            brains::two_rows_of_tiles(rows, weights.add(2 * TILE), sums.add(PANEL / 2).cast(), steps);
        }
    }
}

/// The loops with one instruction or the other.
macro_rules! loops {
    ($name:ident, $multiply:literal) => {
        mod $name {
            use super::{SUM_ROW, TILE, TILE_ROW};
            use std::arch::asm;

            /// Sixteen rows by 64 outputs.
            ///
            /// # Safety
            /// Tiles are configured and multiplied so here; `rows` points to `steps` tiles, `weights` to `steps · 4`, `sums`
            /// to `16 · 64` numbers; `steps` is at least 1.
            #[inline]
            pub(super) unsafe fn one_row_of_tiles(
                rows: *const u8,
                weights: *const u8,
                sums: *mut u8,
                steps: usize,
            ) {
                // SAFETY: the loads step through `rows` by one tile and through `weights` by four, `steps` times, and the
                // stores write sixteen rows of `sums`.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{a} + {row}]",
                        "tileloadd tmm5, [{b} + {row}]",
                        "tileloadd tmm6, [{b} + {row} + 1024]",
                        concat!($multiply, " tmm0, tmm4, tmm5"),
                        "tileloadd tmm7, [{b} + {row} + 2048]",
                        concat!($multiply, " tmm1, tmm4, tmm6"),
                        "tileloadd tmm5, [{b} + {row} + 3072]",
                        concat!($multiply, " tmm2, tmm4, tmm7"),
                        concat!($multiply, " tmm3, tmm4, tmm5"),
                        "add {a}, 1024",
                        "add {b}, 4096",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{c} + {sum_row}], tmm0",
                        "tilestored [{c} + {sum_row} + 64], tmm1",
                        "tilestored [{c} + {sum_row} + 128], tmm2",
                        "tilestored [{c} + {sum_row} + 192], tmm3",
                        a = inout(reg) rows => _,
                        b = inout(reg) weights => _,
                        steps = inout(reg) steps => _,
                        c = in(reg) sums,
                        row = in(reg) TILE_ROW,
                        sum_row = in(reg) SUM_ROW,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }

            /// Thirty-two rows by 32 outputs.
            ///
            /// # Safety
            /// Tiles are configured and multiplied so here; `rows` points to two rows of `steps` tiles, `weights` to two
            /// tiles of every four, `steps` times, `sums` to 32 rows of 64 numbers whose first 32 are written; `steps` is at
            /// least 1.
            #[inline]
            pub(super) unsafe fn two_rows_of_tiles(
                rows: *const u8,
                weights: *const u8,
                sums: *mut u8,
                steps: usize,
            ) {
                // SAFETY: as in `one_row_of_tiles`; the second row of tiles begins where the first ends.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "tileloadd tmm6, [{b} + {row}]",
                        "tileloadd tmm4, [{a} + {row}]",
                        "tileloadd tmm7, [{b} + {row} + 1024]",
                        concat!($multiply, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm5, [{below} + {row}]",
                        concat!($multiply, " tmm1, tmm4, tmm7"),
                        concat!($multiply, " tmm2, tmm5, tmm6"),
                        concat!($multiply, " tmm3, tmm5, tmm7"),
                        "add {a}, 1024",
                        "add {below}, 1024",
                        "add {b}, 4096",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{c} + {sum_row}], tmm0",
                        "tilestored [{c} + {sum_row} + 64], tmm1",
                        "add {c}, 4096",
                        "tilestored [{c} + {sum_row}], tmm2",
                        "tilestored [{c} + {sum_row} + 64], tmm3",
                        a = inout(reg) rows => _,
                        below = inout(reg) rows.add(steps * TILE) => _,
                        b = inout(reg) weights => _,
                        steps = inout(reg) steps => _,
                        c = inout(reg) sums => _,
                        row = in(reg) TILE_ROW,
                        sum_row = in(reg) SUM_ROW,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

loops!(bytes, "tdpbusd");
loops!(brains, "tdpbf16ps");

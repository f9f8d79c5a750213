//! Which kernels does this machine have, and which is the fastest?

use super::{
    BLOCK, Block, PANEL, PANEL_STEP, STEP, TILE,
    brains::{self, BRAIN_PANEL_STEP, BRAIN_STEP, BRAIN_TILE, BrainBlock},
    portable, widest,
};
#[cfg(target_arch = "x86_64")]
use super::{avx2, tiles, vnni, wide_brains};

/// The ways to sum products, slowest first. Sums of bytes are the same to the bit, sums of brain floating point numbers to
/// rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Plain loops in whatever vectors the machine has: the reference.
    Portable,
    /// AVX2, with bytes widened to 16 bits.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with the vector neural network instructions in their 256-bit form.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 with the vector neural network instructions.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// The tile registers of AMX.
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

impl Kernel {
    /// All that run on this machine, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut kernels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend(avx2::is_here().then_some(Self::Avx2));
            kernels.extend(avx2::has_vnni().then_some(Self::AvxVnni));
            kernels.extend(vnni::is_here().then_some(Self::Vnni));
            kernels.extend(tiles::is_here().then_some(Self::Tiles));
        }
        kernels
    }

    /// The fastest that runs on this machine.
    #[must_use]
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => "AMX",
        }
    }

    /// Whether it multiplies brain floating point numbers in a way of its own; the others leave them to another kernel.
    #[must_use]
    pub fn has_brains(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => false,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => wide_brains::is_here(),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => tiles::have_brains(),
        }
    }

    /// Prepares this thread for calls of [`Self::run`], for as long as the value lives.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn begin(self) -> Option<tiles::Tiles> {
        (self == Self::Tiles).then(tiles::Tiles::configure)
    }

    /// Nothing is to be prepared on this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn begin(self) {}

    /// Sums the products of a block, between [`Self::begin`] and the end of what it gave.
    pub(super) fn run(self, mut block: Block<'_>) {
        let Block { activations, rows, weights, steps, ref sums } = block;
        assert!(steps > 0 && weights.len() == steps * PANEL_STEP && sums.len() == BLOCK * PANEL);
        assert!(activations.len() == steps * TILE || activations.len() == 2 * steps * TILE);
        assert!(rows * STEP * steps <= activations.len());
        match self {
            Self::Portable => widest(
                #[inline(always)]
                || portable::run(&mut block),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(block),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx2::run_vnni(block),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => vnni::run(block),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => tiles::run(block),
        }
    }

    /// The same for brain floating point numbers: tiles, AVX-512 or plain loops, the first that the machine has and that is
    /// no faster than this kernel.
    pub(super) fn run_brains(self, mut block: BrainBlock<'_>) {
        let Block { activations, rows, weights, steps, ref sums } = block;
        assert!(steps > 0 && weights.len() == steps * BRAIN_PANEL_STEP && sums.len() == BLOCK * PANEL);
        assert!(activations.len() == steps * BRAIN_TILE || activations.len() == 2 * steps * BRAIN_TILE);
        assert!(rows * BRAIN_STEP * steps <= activations.len());
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles if tiles::have_brains() => tiles::run_brains(block),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles | Self::Vnni if wide_brains::is_here() => wide_brains::run(block),
            _ => widest(
                #[inline(always)]
                || brains::run(&mut block),
            ),
        }
    }
}

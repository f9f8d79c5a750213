//! Which kernels does this machine have, and which is the fastest?

use super::{BLOCK, Block, PANEL, PANEL_STEP, STEP, TILE, portable, widest};
#[cfg(target_arch = "x86_64")]
use super::{tiles, vnni};

/// The ways to sum products of bytes, slowest first. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Plain loops in whatever vectors the machine has: the reference.
    Portable,
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
            Self::Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => "AMX",
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
        let Block { bytes, rows, weights, steps, ref sums } = block;
        assert!(steps > 0 && weights.len() == steps * PANEL_STEP && sums.len() == BLOCK * PANEL);
        assert!(bytes.len() == steps * TILE || bytes.len() == 2 * steps * TILE);
        assert!(rows * STEP * steps <= bytes.len());
        match self {
            Self::Portable => widest(
                #[inline(always)]
                || portable::run(&mut block),
            ),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => vnni::run(block),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => tiles::run(block),
        }
    }
}

//! How does a plain loop get the widest vectors of this machine?
//!
//! The same loop is compiled several times, for more and more of what processors can do, and the best copy is chosen at run
//! time. No loop is reordered by that: every copy gives the same bits.

#![allow(unsafe_code)]

/// What vectors this machine has.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Width {
    /// What every processor of the architecture has.
    Plain,
    /// 256 bits (x86-64-v3).
    Avx2,
    /// 512 bits (x86-64-v4).
    Avx512,
}

#[cfg(target_arch = "x86_64")]
impl Width {
    fn here() -> Self {
        use std::{arch::is_x86_feature_detected as has, sync::LazyLock};
        static HERE: LazyLock<Width> = LazyLock::new(|| {
            let avx2 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt");
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            match (avx2, avx512) {
                (true, true) => Width::Avx512,
                (true, false) => Width::Avx2,
                _ => Width::Plain,
            }
        });
        *HERE
    }
}

/// Runs loops compiled for the widest vectors of this machine. The closure must be marked `#[inline(always)]`, and so must
/// what it calls: code that stays a function of its own is compiled for every processor.
#[inline]
pub fn widest<R>(mut loops: impl FnMut() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    match Width::here() {
        // SAFETY: `here` found the features that the function is compiled for.
        Width::Avx512 => return unsafe { avx512(&mut loops) },
        // SAFETY: as above.
        Width::Avx2 => return unsafe { avx2(&mut loops) },
        Width::Plain => {}
    }
    loops()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<R>(loops: &mut impl FnMut() -> R) -> R {
    loops()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt")]
fn avx2<R>(loops: &mut impl FnMut() -> R) -> R {
    loops()
}

#[cfg(test)]
mod tests {
    use super::widest;

    #[test]
    fn every_copy_gives_the_same_bits() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32).sin()).collect();
        let squares = |values: &[f32]| values.iter().map(|x| x * x + 0.1).collect::<Vec<f32>>();
        let wide = widest(
            #[inline(always)]
            || squares(&values),
        );
        assert_eq!(wide, squares(&values));
    }
}

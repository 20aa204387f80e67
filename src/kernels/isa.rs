//! The instruction sets that this CPU has, as tokens: what has one may call the kernels of its row in the
//! table.
#![allow(unsafe_code, reason = "kernels need an instruction set, which the token proves")]

use super::Sum;
use super::pack::{Layer, Packed};
use super::plane::Window;
use super::table::{InstructionSet, Operation, TABLE};
use super::weights::{ConvForm, DepthwiseForm, PackedConv, PackedDepthwise};
use std::fmt;

/// An instruction set for which there are kernels, as a token: a value exists only where this CPU has the
/// instruction set.
#[derive(Clone, Copy)]
pub struct Isa(&'static InstructionSet);

impl Isa {
    /// Portable: the oracle.
    pub const SCALAR: Self = Self(&TABLE[0]);

    /// Those this CPU has, the best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        TABLE.iter().filter(|row| (row.detected)()).map(Self).collect()
    }

    /// The best this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::SCALAR)
    }

    /// The instruction set of a name, where this CPU has it.
    ///
    /// # Errors
    /// A line that lists the names that this CPU has.
    pub fn named(name: &str) -> Result<Self, String> {
        let available = Self::available();
        let found = available.iter().find(|isa| isa.name() == name).copied();
        found.ok_or_else(|| {
            let names: Vec<&str> = available.iter().map(|isa| isa.name()).collect();
            format!("`{name}` is not an instruction set of this CPU; it has {}", names.join(", "))
        })
    }

    /// Its name, as `retinad check` and `bench` print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What codes are XORed with in planes of this instruction set: 0x80 on ARM, whose planes hold s8, else
    /// 0. Zero points, ranges and arithmetic are those of the codes themselves; tables are of codes as they
    /// are stored.
    #[must_use]
    pub fn flip(self) -> u8 {
        self.0.flip
    }

    /// Name of its kernel for an operation: operation, types, and the instruction set that the kernel is
    /// written for.
    #[must_use]
    pub fn kernel_name(self, operation: Operation) -> String {
        let row = self.0;
        let written_for = match operation {
            Operation::Conv => row.conv.written_for,
            Operation::Depthwise => row.depthwise.written_for,
            Operation::MaxPool => row.max_pool.written_for,
            Operation::Add => row.add.written_for,
            Operation::Translate => row.translate.written_for,
            Operation::Interleave => row.interleave.written_for,
        };
        format!("{}::{written_for}", operation.name())
    }

    /// Packs a convolution in the form that its kernel reads.
    pub(super) fn pack_conv(self, layer: &Layer<'_>) -> Packed<ConvForm> {
        (self.0.pack_conv)(layer)
    }

    /// Packs a depthwise convolution in the form that its kernel reads.
    pub(super) fn pack_depthwise(self, layer: &Layer<'_>) -> Packed<DepthwiseForm> {
        (self.0.pack_depthwise)(layer)
    }

    /// Convolution over the window's planes.
    ///
    /// # Panics
    /// If another instruction set packed the weights, or for other channels.
    pub(super) fn conv(self, weights: &PackedConv, window: &mut Window<'_>) {
        weights.check(self, window);
        // SAFETY: `self` exists, so the CPU has the instruction set; `check` found that this row packed the
        // weights, for the window's shape and channels.
        unsafe { (self.0.conv.run)(weights, window) }
    }

    /// Depthwise convolution over the window's planes.
    ///
    /// # Panics
    /// As [`Isa::conv`].
    pub(super) fn depthwise(self, weights: &PackedDepthwise, window: &mut Window<'_>) {
        weights.check(self, window);
        // SAFETY: `self` exists, so the CPU has the instruction set; `check` found that this row packed the
        // weights, for the window's shape and channels.
        unsafe { (self.0.depthwise.run)(weights, window) }
    }

    /// Largest codes under the window.
    ///
    /// # Panics
    /// If the window has not as many outputs as inputs.
    pub(super) fn max_pool(self, window: &mut Window<'_>) {
        assert!(window.inputs == window.outputs, "planes of different channels");
        // SAFETY: `self` exists, so the CPU has the instruction set; as many channels are written as are
        // read.
        unsafe { (self.0.max_pool.run)(window) }
    }

    /// Codes of `a` and `b` to their sums, as many as the shortest slice has.
    pub(super) fn add(self, sum: &Sum, a: &[u8], b: &[u8], to: &mut [u8]) {
        // SAFETY: `self` exists, so the CPU has the instruction set; the kernel goes by the slices' lengths.
        unsafe { (self.0.add.run)(sum, a, b, to) }
    }

    /// Codes through a table, as many as the shorter slice has.
    pub(super) fn translate(self, table: &[u8; 256], from: &[u8], to: &mut [u8]) {
        // SAFETY: `self` exists, so the CPU has the instruction set; the kernel goes by the slices' lengths.
        unsafe { (self.0.translate.run)(table, from, to) }
    }

    /// Codes of two slices in turn, as many pairs as the shortest slice has room for.
    pub(super) fn interleave(self, a: &[u8], b: &[u8], to: &mut [u8]) {
        // SAFETY: `self` exists, so the CPU has the instruction set; the kernel goes by the slices' lengths.
        unsafe { (self.0.interleave.run)(a, b, to) }
    }

    /// Runs `steps` steps of its products in registers; returns their multiply-adds. None for the portable
    /// kernels, which have no such loop.
    pub(super) fn spin(self, steps: usize) -> Option<u64> {
        // SAFETY: `self` exists, so the CPU has the instruction set.
        self.0.spin.map(|spin| unsafe { spin(steps) })
    }
}

impl PartialEq for Isa {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Isa {}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

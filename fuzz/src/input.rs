//! Bytes taken for decisions: how a target that wants more than bytes reads its input.

/// Takes numbers from the front of an input; where it has ended they are 0.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts at the front.
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input { rest: data }
    }

    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = N.min(self.rest.len());
        bytes[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        bytes
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// A number below `bound`, which is from 1 to 65,536.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound <= 256 {
            usize::from(self.byte()) % bound
        } else {
            usize::from(u16::from_le_bytes(self.array())) % bound
        }
    }

    /// One of several.
    ///
    /// # Panics
    /// If there are none.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A float of any bits: infinities, NaN and denormals included.
    pub fn any_float(&mut self) -> f32 {
        f32::from_bits(u32::from_le_bytes(self.array()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_front_and_end_in_zeros() {
        let mut input = Input::new(&[7, 0x34, 0x12, 9]);
        assert_eq!((input.below(5), input.below(60_000)), (2, 0x1234));
        assert_eq!(input.array::<4>(), [9, 0, 0, 0]);
        assert!(input.is_empty());
        assert_eq!((input.byte(), input.choose(&[4, 5]), input.any_float()), (0, 4, 0.0));
    }
}

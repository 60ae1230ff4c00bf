//! The floating-point and SIMD registers to and from foreign memory.

// Random numbers that are the same in every run, for tests of whatever module.
@_exported public import struct AttentionReference.SplitMix64

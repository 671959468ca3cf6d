"""The innermost steps of the resampler, emitted as vector code that numba compiles with the loops around them.

Loops in plain numba take 8 to 24 times as long (docs/decisions/0011): LLVM makes of no loop the shuffle that picks
samples, nor the multiplication that rounds. On x86-64 with AVX2 each is one instruction. Other CPUs do the same
arithmetic byte by byte, to the same numbers: right, but slow, at 21 ms for a 1080p frame where AVX2 takes 1 ms.

This is the one module that reaches further than numba's public interface. It relies on three things. The contract
test in `tests/draw/test_resample_blocks.py` checks them against the pinned version:

- `context.codegen().magic_tuple()` holds the target and the CPU's features, and `context.make_array` the fields `data`
  and `strides`;
- a `UniTuple` of numbers is an LLVM array of them;
- LLVM has the intrinsics `llvm.x86.avx2.*` that are named below.

Where data lies is passed as addresses, uint64, which `row_address` gives.
"""

# numba's intrinsics are emitted by its own protocol:
# ruff: noqa: ANN001, ANN002, ANN201, ANN202, ANN204

from __future__ import annotations

import itertools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["BLENDED", "SCALED", "UNIT", "blend_block", "items", "row_address", "scale_block"]

UNIT = 1 << 14  # what the weights of one output sample add up to
SCALED = 16  # outputs that `scale_block` makes of a row, in four groups of four
BLENDED = 32  # outputs that `blend_block` makes

_PAIR = types.UniTuple(types.uint64, 2)
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_LANE, _BYTES, _WORDS, _SUMS = (ir.VectorType(*kind) for kind in ((_I8, 16), (_I8, 32), (_I16, 16), (_I32, 8)))


@intrinsic
def row_address(_typing, array, row):
    """Emit where a row of a two-dimensional array starts."""

    def generate(context, builder, _signature, values):
        view = context.make_array(array)(context, builder, values[0])
        skip = builder.mul(values[1], builder.extract_value(view.strides, 0))
        return builder.add(builder.ptrtoint(view.data, _I64), skip)

    return types.uint64(array, types.uint64), generate


@intrinsic
def items(_typing, address, like):
    """Emit the uint64 numbers from an address on as a tuple as long as `like`, so that they stay in registers."""
    result = types.UniTuple(types.uint64, len(like))

    def generate(context, builder, _signature, values):
        code, found = _VectorCode(context, builder), ir.Constant(context.get_value_type(result), ir.Undefined)
        for k in range(len(like)):
            found = builder.insert_value(found, code.load(_I64, values[0], 8 * k), k)
        return found

    return result(types.uint64, like), generate


@intrinsic
def scale_block(_typing, rows, tables, outs, like):
    """Emit 16 outputs of each of two source rows, by as many taps as `like` has items.

    Four neighbouring outputs are a group. All samples that two of its taps read lie within 16 bytes, which are one lane
    of a vector, so that one shuffle picks them and one multiplication adds both taps' products. A vector holds two
    lanes: its half 0 is of the groups 0 and 2, half 1 of the groups 1 and 3. Masks and weights serve both rows.

    Args:
        rows: Where the two rows start, borders included.
        tables: Where this block's first samples, masks and weights are, as `_fill_groups` arranges them.
        outs: Where the outputs of either row go, int16: samples times 64.
        like: A tuple.
    """
    pairs = len(like) // 2

    def generate(context, builder, _signature, values):
        code = _VectorCode(context, builder)
        sources, (firsts, masks, weights), targets = (code.parts(value) for value in values[:3])
        starts = [builder.zext(code.load(_I32, firsts, 4 * group), _I64) for group in range(4)]
        sums = [[_splat(_SUMS, 0)] * 2 for _ in sources]
        for pair, half in itertools.product(range(pairs), range(2)):
            # Up to 8 taps read the same 16 bytes, which LLVM then loads once; more taps need others for each pair.
            skip = 2 * pair if pairs > 4 else 0
            mask = builder.add(code.load(_BYTES, masks, 32 * half), _splat(_BYTES, 2 * pair - skip))
            shares = code.load(_WORDS, weights, 64 * pair + 32 * half)
            for row, source in enumerate(sources):
                lanes = [code.load(_LANE, builder.add(source, starts[group]), skip) for group in (half, half + 2)]
                near = builder.shuffle_vector(*lanes, _lanes(range(32)))
                products = code.multiply_pairs(code.pick(near, mask), shares)
                sums[row][half] = builder.add(sums[row][half], products)
        for halves, target in zip(sums, targets, strict=True):
            scaled = [builder.ashr(total, _splat(_SUMS, 8)) for total in halves]
            code.store(code.narrow_sums(*scaled), target, align=2)
        return context.get_dummy_value()

    return types.void(rows, tables, outs, like), generate


@intrinsic
def blend_block(_typing, rows, column, shares, out):
    """Emit 32 outputs: the sum of rows of the ring, each times its share.

    Args:
        rows: Where the rows start, int16: samples times 64.
        column: Of the outputs, in bytes of a row of the ring.
        shares: The rows' weights; they add up to `UNIT`.
        out: Where the outputs go, uint8.
    """

    def generate(context, builder, _signature, values):
        code = _VectorCode(context, builder)
        starts = [builder.add(start, values[1]) for start in code.parts(values[0])]
        weights = [code.spread(builder.trunc(share, _I16)) for share in code.parts(values[2])]
        halves = []
        for half in range(2):
            total = _splat(_WORDS, 1 << 4)  # half of what the shift below divides by
            for start, weight in zip(starts, weights, strict=True):
                words = code.load(_WORDS, start, 32 * half, align=2)
                total = builder.add(total, code.multiply_rounded(words, weight))
            halves.append(builder.ashr(total, _splat(_WORDS, 5)))
        code.store(code.clip_to_bytes(*halves), values[3], align=1)
        return context.get_dummy_value()

    return types.void(rows, types.uint64, shares, types.uint64), generate


def _lanes(indices):
    return ir.Constant(ir.VectorType(_I32, len(indices)), list(indices))


def _splat(vector, value):
    return ir.Constant(vector, [value] * vector.count)


class _VectorCode:
    """Emits operations on vectors of 32 bytes: bytes, 16-bit words or 32-bit sums."""

    def __init__(self, context, builder):
        triple, _, features = context.codegen().magic_tuple()
        self._has_avx2 = triple.startswith("x86_64") and "+avx2" in features.split(",")
        self._builder = builder

    def parts(self, pack):
        """The items of a tuple."""
        return [self._builder.extract_value(pack, k) for k in range(pack.type.count)]

    def load(self, kind, address, offset=0, align=1):
        place = self._builder.add(address, _I64(offset))
        return self._builder.load(self._builder.inttoptr(place, kind.as_pointer()), align=align)

    def store(self, vector, address, align):
        self._builder.store(vector, self._builder.inttoptr(address, vector.type.as_pointer()), align=align)

    def spread(self, word):
        """A word in all places of a vector."""
        undefined = ir.Constant(_WORDS, ir.Undefined)
        first = self._builder.insert_element(undefined, word, _I32(0))
        return self._builder.shuffle_vector(first, undefined, _lanes([0] * 16))

    def pick(self, near, mask):
        """16 bytes of `near`, as words: those at the even bytes of `mask`, counted within each lane."""
        if self._has_avx2:
            return self._builder.bitcast(self._call("llvm.x86.avx2.pshuf.b", _BYTES, near, mask), _WORDS)
        builder, picked = self._builder, ir.Constant(_LANE, ir.Undefined)
        for word in range(16):
            at = builder.zext(builder.extract_element(mask, _I32(2 * word)), _I32)
            sample = builder.extract_element(near, builder.add(at, _I32(word // 8 * 16)))
            picked = builder.insert_element(picked, sample, _I32(word))
        return builder.zext(picked, _WORDS)

    def multiply_pairs(self, words, shares):
        """Eight sums of two neighbouring words times their shares."""
        if self._has_avx2:
            return self._call("llvm.x86.avx2.pmadd.wd", _SUMS, words, shares)
        builder, wide = self._builder, ir.VectorType(_I32, 16)
        products = builder.mul(builder.sext(words, wide), builder.sext(shares, wide))
        pairs = (builder.shuffle_vector(products, products, _lanes(range(k, 16, 2))) for k in range(2))
        return builder.add(*pairs)

    def multiply_rounded(self, words, shares):
        """Words times shares / 2**15, rounded."""
        if self._has_avx2:
            return self._call("llvm.x86.avx2.pmul.hr.sw", _WORDS, words, shares)
        builder, wide = self._builder, ir.VectorType(_I32, 16)
        product = builder.mul(builder.sext(words, wide), builder.sext(shares, wide))
        halved = builder.add(builder.ashr(product, _splat(wide, 14)), _splat(wide, 1))
        return builder.trunc(builder.ashr(halved, _splat(wide, 1)), _WORDS)

    def narrow_sums(self, near, far):
        """16 words in order, from the sums of groups 0 and 2 and those of groups 1 and 3."""
        if self._has_avx2:
            return self._call("llvm.x86.avx2.packssdw", _WORDS, near, far)
        order = [lane + half + k for lane in (0, 4) for half in (0, 8) for k in range(4)]
        return self._builder.trunc(self._builder.shuffle_vector(near, far, _lanes(order)), _WORDS)

    def clip_to_bytes(self, first, second):
        """32 bytes, in order, from 32 words, those beyond 0 and 255 cut."""
        builder = self._builder
        if self._has_avx2:
            packed = self._call("llvm.x86.avx2.packuswb", _BYTES, first, second)
            quarters = builder.bitcast(packed, ir.VectorType(_I64, 4))
            return builder.bitcast(builder.shuffle_vector(quarters, quarters, _lanes([0, 2, 1, 3])), _BYTES)
        words = builder.shuffle_vector(first, second, _lanes(range(32)))
        for bound, beyond in ((_splat(words.type, 0), "<"), (_splat(words.type, 255), ">")):
            words = builder.select(builder.icmp_signed(beyond, words, bound), bound, words)
        return builder.trunc(words, _BYTES)

    def _call(self, name, result, *args):
        found = self._builder.module.globals.get(name)
        if found is None:
            kind = ir.FunctionType(result, [arg.type for arg in args])
            found = ir.Function(self._builder.module, kind, name)
        return self._builder.call(found, args)

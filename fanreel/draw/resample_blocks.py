"""The bodies of the resampler's loops, emitted as vector code.

On x86-64 with AVX2 they use its shuffles and 16-bit multiplications. Other CPUs do the same arithmetic byte by byte,
to the same numbers: right, but slow, at 33 ms for a 1080p frame where AVX2 takes 1.4 ms.

Numba's cache does not notice changes of this file, only of `resample_kernels`: touch that one too.
"""

# numba's intrinsics are emitted by its own protocol:
# ruff: noqa: ANN001, ANN002, ANN201, ANN202

from __future__ import annotations

import itertools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["BLOCK", "UNIT", "blend_block", "column_of", "ring_rows", "scale_block"]

UNIT = 1 << 14  # what the weights of one output sample add up to
BLOCK = 16  # output samples that one turn of the loop across makes, in four groups of four

_PAIR = types.UniTuple(types.uint64, 2)
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_LANE, _BYTES, _WORDS, _SUMS = (ir.VectorType(*kind) for kind in ((_I8, 16), (_I8, 32), (_I16, 16), (_I32, 8)))


def _element(context, builder, kind, array, place, pointee):
    """Emit the address of `array[place]`, rows dense, as a pointer to `pointee`."""
    view = context.make_array(kind)(context, builder, array)
    stride, item = builder.extract_value(view.strides, 0), _I64(kind.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(place[0], stride), builder.mul(place[1], item))
    return builder.bitcast(builder.gep(builder.bitcast(view.data, _I8.as_pointer()), [offset]), pointee.as_pointer())


@intrinsic
def column_of(_typing, table, i, like):
    """Emit `table[:, i]` as a tuple as long as `like`."""

    def generate(context, builder, signature, args):
        kind = context.get_value_type(table.dtype)
        places = [_element(context, builder, table, args[0], (_I64(k), args[1]), kind) for k in range(len(like))]
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in places])

    return types.UniTuple(table.dtype, len(like))(table, types.uint64, like), generate


@intrinsic
def ring_rows(_typing, start, size, ring, like):
    """Emit where in a ring the rows from `start` on lie, one for each item of `like`; `ring` is a power of two."""

    def generate(context, builder, signature, args):
        start, size, ring, _ = args
        rows, zero, last = [], _I64(0), builder.sub(size, _I64(1))
        for k in range(len(like)):
            row = builder.add(builder.sext(start, _I64), _I64(k))
            row = builder.select(builder.icmp_signed("<", row, zero), zero, row)
            row = builder.select(builder.icmp_signed(">", row, last), last, row)
            rows.append(builder.and_(row, builder.sub(ring, _I64(1))))
        return context.make_tuple(builder, signature.return_type, rows)

    return types.UniTuple(types.uint64, len(like))(types.int32, types.uint64, types.uint64, like), generate


def _lanes(indices):
    return ir.Constant(ir.VectorType(_I32, len(indices)), list(indices))


def _splat(vector, value):
    return ir.Constant(vector, [value] * vector.count)


def _has_avx2(context):
    triple, _, features = context.codegen().magic_tuple()
    return triple.startswith("x86_64") and "+avx2" in features.split(",")


def _call(builder, name, result, *args):
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [arg.type for arg in args]), name)
    return builder.call(function, args)


@intrinsic
def scale_block(_typing, source, rows, groups, block, ring, slots, like):
    """Emit 16 outputs of each of two source rows, from the taps in `groups` at `block` into `slots` of the ring.

    What one group of four outputs reads lies within 16 neighbouring bytes; a shuffle picks from them for two taps.
    """
    firsts, masks, weights = groups.types
    pairs = len(like) // 2
    loads = pairs if pairs > 4 else 1  # up to 8 taps, what any tap of a group reads lies within the same 16 bytes

    def generate(context, builder, _signature, args):
        source_, rows_, groups_, block_, ring_, slots_, _ = args
        firsts_, masks_, weights_ = cgutils.unpack_tuple(builder, groups_)

        def load(kind, array, at, pointee):
            return builder.load(_element(context, builder, kind, array, at, pointee), align=1)

        starts = [builder.zext(load(firsts, firsts_, (block_, _I64(group)), _I32), _I64) for group in range(4)]
        totals = [[_splat(_SUMS, 0)] * 2 for _ in range(2)]
        multiply = _multiply_picked if _has_avx2(context) else _multiply_plainly
        rows_, near = cgutils.unpack_tuple(builder, rows_), {}
        for pair in range(pairs):
            for half, number in itertools.product(range(2), range(2)):
                if pair < loads:
                    places = [(rows_[number], builder.add(starts[g], _I64(2 * pair))) for g in (half, half + 2)]
                    lanes = [load(source, source_, place, _LANE) for place in places]
                    near[number, half] = builder.shuffle_vector(*lanes, _lanes(range(32)))
                mask = load(masks, masks_, (block_, _I64(8 * half)), _BYTES)
                mask = builder.add(mask, _splat(_BYTES, 0 if pair < loads else 2 * pair))
                shares = load(weights, weights_, (block_, _I64(16 * pair + 8 * half)), _WORDS)
                parts = multiply(builder, near[number, half], mask, shares)
                totals[number][half] = builder.add(totals[number][half], parts)
        for halves, slot in zip(totals, cgutils.unpack_tuple(builder, slots_), strict=True):
            place = slot, builder.mul(block_, _I64(BLOCK))
            words = _pack_sums(context, builder, [builder.ashr(total, _splat(_SUMS, 8)) for total in halves])
            builder.store(words, _element(context, builder, ring, ring_, place, _WORDS), align=2)
        return context.get_dummy_value()

    return types.void(source, _PAIR, groups, types.uint64, ring, _PAIR, like), generate


def _multiply_picked(builder, near, mask, shares):
    """Emit, for eight outputs, the sum of two samples of `near` times their shares."""
    picked = _call(builder, "llvm.x86.avx2.pshuf.b", _BYTES, near, mask)
    return _call(builder, "llvm.x86.avx2.pmadd.wd", _SUMS, builder.bitcast(picked, _WORDS), shares)


def _multiply_plainly(builder, near, mask, shares):
    """Emit the same for any CPU, byte by byte."""
    total = ir.Constant(_SUMS, ir.Undefined)
    for output in range(8):
        parts = []
        for tap in range(2):
            at = builder.zext(builder.extract_element(mask, _I32(4 * output + 2 * tap)), _I32)
            sample = builder.extract_element(near, builder.add(at, _I32(output // 4 * 16)))
            share = builder.extract_element(shares, _I32(2 * output + tap))
            parts.append(builder.mul(builder.zext(sample, _I32), builder.sext(share, _I32)))
        total = builder.insert_element(total, builder.add(*parts), _I32(output))
    return total


def _pack_sums(context, builder, halves):
    """Emit 16 words in order from the sums of groups 0 and 2 and those of groups 1 and 3."""
    if _has_avx2(context):
        return _call(builder, "llvm.x86.avx2.packssdw", _WORDS, *halves)
    order = [lane + half + k for lane in (0, 4) for half in (0, 8) for k in range(4)]
    return builder.trunc(builder.shuffle_vector(*halves, _lanes(order)), _WORDS)


@intrinsic
def blend_block(_typing, ring, slots, column, shares, out, place):
    """Emit 32 outputs at `place`: weighted sums of the ring's rows `slots`, from `column` on."""
    taps = len(slots)

    def generate(context, builder, _signature, args):
        ring_, slots_, column_, shares_, out_, place_ = args
        slots_ = cgutils.unpack_tuple(builder, slots_)
        spread = [_spread(builder, share) for share in cgutils.unpack_tuple(builder, shares_)]
        halves = []
        for half in range(2):
            total = _splat(_WORDS, 1 << 4)
            for k in range(taps):
                at = slots_[k], builder.add(column_, _I64(16 * half))
                words = builder.load(_element(context, builder, ring, ring_, at, _WORDS), align=2)
                total = builder.add(total, _multiply_rounded(context, builder, words, spread[k]))
            halves.append(builder.ashr(total, _splat(_WORDS, 5)))
        place_ = cgutils.unpack_tuple(builder, place_)
        samples = _pack_words(context, builder, halves)
        builder.store(samples, _element(context, builder, out, out_, place_, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(ring, slots, types.uint64, shares, out, _PAIR), generate


def _spread(builder, word):
    undefined = ir.Constant(_WORDS, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, word, _I32(0)), undefined, _lanes([0] * 16))


def _multiply_rounded(context, builder, words, shares):
    """Emit words x shares / 2**15, rounded."""
    if _has_avx2(context):
        return _call(builder, "llvm.x86.avx2.pmul.hr.sw", _WORDS, words, shares)
    wide = ir.VectorType(_I32, 16)
    product = builder.mul(builder.sext(words, wide), builder.sext(shares, wide))
    halved = builder.add(builder.ashr(product, _splat(wide, 14)), _splat(wide, 1))
    return builder.trunc(builder.ashr(halved, _splat(wide, 1)), _WORDS)


def _pack_words(context, builder, halves):
    """Emit 32 bytes, in order, from 32 words, those beyond 0 and 255 cut."""
    if _has_avx2(context):
        packed = _call(builder, "llvm.x86.avx2.packuswb", _BYTES, *halves)
        quarters = builder.bitcast(packed, ir.VectorType(_I64, 4))
        return builder.bitcast(builder.shuffle_vector(quarters, quarters, _lanes([0, 2, 1, 3])), _BYTES)
    words = builder.shuffle_vector(*halves, _lanes(range(32)))
    for bound, beyond in ((_splat(words.type, 0), "<"), (_splat(words.type, 255), ">")):
        words = builder.select(builder.icmp_signed(beyond, words, bound), bound, words)
    return builder.trunc(words, _BYTES)

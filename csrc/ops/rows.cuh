// Work on the rows of [rows, n], for softmax.cu and normalize.cu.
//
// A row is shared by as many threads as have 16 bytes of it, up to a warp; by a block if a warp
// cannot hold it in registers or rows are few. A thread holds 16 numbers (8 of float64); what does
// not fit, beyond 4,096 numbers of a row, is read again in every pass. Who adds what is decided by
// sizes and alignment only.
#pragma once
#include "cuda/block.cuh"
#include "ops/pack.cuh"

namespace hb::cuda {

struct RowPlan {
  int64_t rows = 0, turns = 0;  // turns: of a block with all its rows
  int n = 0, lanes = 1;         // threads of a row
  bool aligned = false;         // rows are multiples of 16 bytes
  RowPlan(int64_t num_rows, int64_t size, DType t) : rows(num_rows), n(int(size)) {
    if (size >= int64_t(1) << 30) fail("rows of %lld elements are too long", (long long)size);
    const int count = 16 / int(item_bytes(t)), held = t == DType::F64 ? 8 : 16;
    constexpr int64_t kFewRows = 2048;
    aligned = n % count == 0;
    while (lanes < 32 && lanes * count < n) lanes *= 2;
    if (n > 32 * held || (rows < kFewRows && n > 64 * count)) lanes = kThreads;
    turns = (rows + kThreads / lanes - 1) / (kThreads / lanes);
  }
  dim3 grid() const { return blocks_for(turns, 1); }
};

// A thread's place in a turn. Rows beyond the end have no numbers: their threads come along.
struct RowThread {
  int64_t row;
  int n, lane, lanes;
  bool there, whole;  // whole: 16 bytes at a time
  __device__ __forceinline__ RowThread(const RowPlan& p, bool aligned, int64_t turn)
      : lane(int(threadIdx.x) % p.lanes), lanes(p.lanes), whole(aligned && p.aligned) {
    row = turn * (kThreads / lanes) + int(threadIdx.x) / lanes;
    there = row < p.rows;
    n = there ? p.n : 0;
  }
  __device__ __forceinline__ bool first() const { return there && lane == 0; }
  // What the row's threads bring, joined; all of the block come, all of the row get it.
  template <class Op, class C>
  __device__ __forceinline__ C join(C x) const {
    if (lanes == kThreads) return over_block<Op>(x);
    for (int by = lanes / 2; by > 0; by /= 2) x = Op::join(x, __shfl_xor_sync(0xffffffffu, x, by));
    return x;
  }
};

template <class T>
struct Numbers {
  Compute<T> x[kPack<T>];
};

// A row in memory: pack s of a thread.
template <class T>
struct RowView {
  typedef T Stored;
  const RowThread& t;
  const T* from;
  // Number e of pack s.
  __device__ __forceinline__ int index(int s, int e) const {
    return t.whole ? (s * t.lanes + t.lane) * kPack<T> + e : (s * kPack<T> + e) * t.lanes + t.lane;
  }
  __device__ __forceinline__ bool begins(int s) const { return s * t.lanes * kPack<T> < t.n; }
  __device__ __forceinline__ bool has(int s, int e) const {
    return index(s, t.whole ? 0 : e) < t.n;
  }
  template <bool kHeld>
  __device__ __forceinline__ Numbers<T> get(int s) const {
    Numbers<T> pack;
    if (t.whole && has(s, 0)) {
      load_pack(pack.x, from + index(s, 0), true, 0);
    } else {
      HB_UNROLL
      for (int e = 0; e < kPack<T>; ++e)
        pack.x[e] = !t.whole && has(s, e) ? widened(from[index(s, e)]) : Compute<T>(0);
    }
    return pack;
  }
};

struct AsItIs {
  template <class C>
  __device__ __forceinline__ C operator()(C x) const {
    return x;
  }
};

// A row whose numbers are held, after F. What is written where the row lies is read before.
template <class T, class F = AsItIs>
struct Row : RowView<T> {
  static constexpr int kPacks = (sizeof(Compute<T>) == 8 ? 8 : 16) / kPack<T>;
  Numbers<T> held[kPacks];
  F f;
  __device__ __forceinline__ Row(const RowThread& t, const T* x) : RowView<T>{t, x}, f() {
    HB_UNROLL
    for (int s = 0; s < kPacks; ++s)
      if (this->begins(s)) held[s] = RowView<T>::template get<false>(s);
  }
  // The same with f of its numbers instead of them.
  template <class G>
  __device__ __forceinline__ Row<T, G> mapped(const G& g) const {
    return Row<T, G>(*this, g);
  }
  template <class G>
  __device__ __forceinline__ Row(const Row<T, G>& row, const F& g) : RowView<T>(row), f(g) {
    static_assert(std::is_same_v<G, AsItIs>);
    HB_UNROLL
    for (int s = 0; s < kPacks; ++s)
      if (this->begins(s)) {
        HB_UNROLL
        for (int e = 0; e < kPack<T>; ++e) held[s].x[e] = f(row.held[s].x[e]);
      }
  }
  template <bool kHeld>
  __device__ __forceinline__ Numbers<T> get(int s) const {
    if constexpr (kHeld) return held[s];
    Numbers<T> pack = RowView<T>::template get<false>(s);
    HB_UNROLL
    for (int e = 0; e < kPack<T>; ++e) pack.x[e] = f(pack.x[e]);
    return pack;
  }
};

// use(s, pack of each row), for all packs of a thread; the first row is one that is held.
template <class Use, class A, class... B>
__device__ __forceinline__ void each_pack(const Use& use, const A& a, const B&... b) {
  HB_UNROLL
  for (int s = 0; s < A::kPacks; ++s)
    if (a.begins(s)) use(s, a.template get<true>(s), b.template get<true>(s)...);
  HB_UNROLL_NOT
  for (int s = A::kPacks; a.begins(s); ++s)
    use(s, a.template get<false>(s), b.template get<false>(s)...);
}
// use(index, number of each row)
template <class Use, class A, class... B>
__device__ __forceinline__ void each_number(const Use& use, const A& a, const B&... b) {
  each_pack(
      [&](int s, const auto&... packs) {
        HB_UNROLL
        for (int e = 0; e < kPack<typename A::Stored>; ++e)
          if (a.has(s, e)) use(a.index(s, e), packs.x[e]...);
      },
      a, b...);
}
// to[index] = f(index, number of each row); to: the row of the result.
template <class T, class F, class A, class... B>
__device__ __forceinline__ void put_numbers(T* to, const F& f, const A& a, const B&... b) {
  each_pack(
      [&](int s, const auto&... packs) {
        Compute<T> y[kPack<T>];
        HB_UNROLL
        for (int e = 0; e < kPack<T>; ++e) y[e] = f(a.index(s, e), packs.x[e]...);
        if (a.t.whole) {
          if (a.has(s, 0)) store_pack(to + a.index(s, 0), y, true, 0);
        } else {
          HB_UNROLL
          for (int e = 0; e < kPack<T>; ++e)
            if (a.has(s, e)) to[a.index(s, e)] = narrowed<T>(y[e]);
        }
      },
      a, b...);
}

}  // namespace hb::cuda

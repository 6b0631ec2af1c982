// What sweeps over columns have in common. Before including this, define HT_TARGET, the attribute
// of an instruction set; everything here is local to the including file.
#ifndef HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_UNROLL_H_
#define HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_UNROLL_H_

#include <type_traits>
#include <utility>

#define HT_LAMBDA HT_TARGET __attribute__((always_inline))
#define HT_INLINE HT_LAMBDA inline

namespace halftone {
namespace {

// Calls f(0) … f(n - 1) with constants. Arrays stay in registers where no loop counts through them.
template <int... kIndex, typename F>
HT_INLINE void Unroll(std::integer_sequence<int, kIndex...>, const F& f) {
  (f(std::integral_constant<int, kIndex>()), ...);
}
template <int kCount, typename F>
HT_INLINE void Unroll(const F& f) {
  Unroll(std::make_integer_sequence<int, kCount>(), f);
}

// The same pointer, but the compiler does not know: what was loaded through it before is loaded
// again, as an operand, instead of being kept on the stack.
template <typename T>
HT_INLINE void Forget(T*& pointer) {
  asm("" : "+r"(pointer));
}

}  // namespace
}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_DEPTHWISE_UNROLL_H_

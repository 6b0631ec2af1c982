// What the CPU can do, as far as decisions depend on it. Respects ONEDNN_MAX_CPU_ISA.
#ifndef HALFTONE_CORE_EXEC_CPU_FEATURES_H_
#define HALFTONE_CORE_EXEC_CPU_FEATURES_H_

#include <string>

namespace halftone {

struct CpuFeatures {
  bool avx2 = false;
  bool avx512 = false;
  // u8·s8 products accumulate in 32 bits. Without it pair sums saturate in 16 bits, so weights
  // must stay in [-64, 63]: 255 · 64 · 2 = 32640 fits, 255 · 127 · 2 does not.
  bool vnni = false;
  bool bf16 = false;  // native bf16 dot products
  bool f16 = false;   // native f16 arithmetic
};

CpuFeatures DetectCpuFeatures();

// Part of a variant's identity where numbers depend on it: "avx512-vnni", "avx2" … See the .cc.
std::string IsaClass(const CpuFeatures& features);
// For people and the build_info metric: "avx512-vnni-bf16", "avx2", …
std::string IsaName(const CpuFeatures& features);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_CPU_FEATURES_H_

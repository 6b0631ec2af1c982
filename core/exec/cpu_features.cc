#include "core/exec/cpu_features.h"

#include <dnnl.hpp>

#include "absl/strings/str_cat.h"

namespace halftone {

CpuFeatures DetectCpuFeatures() {
  // oneDNN's view rather than CPUID: it honours ONEDNN_MAX_CPU_ISA, and it is what will run.
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  const auto at_least = [isa](dnnl::cpu_isa want) {
    return (static_cast<unsigned>(isa) & static_cast<unsigned>(want)) ==
           static_cast<unsigned>(want);
  };
  CpuFeatures f;
  f.avx2 = at_least(dnnl::cpu_isa::avx2);
  f.avx512 = at_least(dnnl::cpu_isa::avx512_core);
  f.vnni = at_least(dnnl::cpu_isa::avx512_core_vnni) || at_least(dnnl::cpu_isa::avx2_vnni);
  f.bf16 = at_least(dnnl::cpu_isa::avx512_core_bf16);
  f.f16 = at_least(dnnl::cpu_isa::avx512_core_fp16);
  return f;
}

// VNNI decides on the range of weights. How many floats a vector has decides on the order of sums,
// and so on the last bits of what calibration sees.
std::string IsaClass(const CpuFeatures& features) {
  const char* floats = features.avx512 ? "avx512" : features.avx2 ? "avx2" : "sse";
  return absl::StrCat(floats, features.vnni ? "-vnni" : "");
}

std::string IsaName(const CpuFeatures& features) {
  return absl::StrCat(IsaClass(features), features.bf16 ? "-bf16" : "",
                      features.f16 ? "-fp16" : "");
}

}  // namespace halftone

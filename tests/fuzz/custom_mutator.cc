// Makes libFuzzer mutate messages field by field.
#include <algorithm>
#include <cstring>

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/wire_mutator.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace halftone {
namespace {

const std::vector<std::string>& Words() {
  static const auto* words = new std::vector<std::string>(FuzzWords());
  return *words;
}

void MutateBytes(std::string& bytes) {
  const size_t size = bytes.size();
  bytes.resize(size + 8);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), size, bytes.size()));
}

absl::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace
}  // namespace halftone

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  halftone::WireMutator mutator(seed, halftone::Words(), halftone::MutateBytes);
  // Now and then bytes that are no message at all.
  if (seed % 32 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::string out = mutator.Mutate(halftone::View(data, size), max_size);
  if (out.empty()) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, out.data(), out.size());
  return out.size();
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* data1, size_t size1,
                                            const uint8_t* data2, size_t size2, uint8_t* out,
                                            size_t max_out_size, unsigned int seed) {
  halftone::WireMutator mutator(seed, halftone::Words(), halftone::MutateBytes);
  const std::string result =
      mutator.CrossOver(halftone::View(data1, size1), halftone::View(data2, size2), max_out_size);
  std::memcpy(out, result.data(), result.size());
  return result.size();
}

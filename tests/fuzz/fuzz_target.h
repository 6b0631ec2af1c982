// What every fuzz target of this folder provides. Its inputs are protobuf messages.
#ifndef HALFTONE_TESTS_FUZZ_FUZZ_TARGET_H_
#define HALFTONE_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace halftone {

// Strings worth trying in place of others: operators, data types.
std::vector<std::string> FuzzWords();

// INTERNAL means that Halftone broke its own rules; every other answer is fine.
inline void CheckNotInternal(absl::string_view what, const absl::Status& status) {
  CHECK(!absl::IsInternal(status)) << what << ": " << status;
}

}  // namespace halftone

// libFuzzer's entry: one input. Aborts on a finding.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // HALFTONE_TESTS_FUZZ_FUZZ_TARGET_H_

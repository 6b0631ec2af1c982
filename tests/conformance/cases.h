// Runs cases in ONNX's own form: a model with inputs and expected outputs beside it.
#ifndef HALFTONE_TESTS_CONFORMANCE_CASES_H_
#define HALFTONE_TESTS_CONFORMANCE_CASES_H_

#include <filesystem>
#include <string>

namespace halftone {

// |got - want| <= absolute + relative * |want|, for every element.
struct CaseTolerance {
  double relative = 1e-3, absolute = 1e-7;  // those of ONNX's test runner
};

// Runs every data set of the case in `folder` (model.onnx, test_data_set_N/{input,output}_M.pb) on
// two roads: the reference evaluation of the imported graph, and the portable passes with a plan.
// What shape inference claims must be true. Empty when all agree, else what does not.
std::string RunCase(const std::filesystem::path& folder, CaseTolerance tolerance);

// The folder that generate.py wrote, from $HALFTONE_CONFORMANCE; empty without one.
std::filesystem::path GeneratedCases();

}  // namespace halftone

#endif  // HALFTONE_TESTS_CONFORMANCE_CASES_H_

// Every lowering rule. RulesFor in rules.cc says which operators they serve, in which order.
#ifndef HALFTONE_CORE_EXEC_LOWER_RULES_H_
#define HALFTONE_CORE_EXEC_LOWER_RULES_H_

#include <string>

#include "core/exec/lowering.h"

namespace halftone {

absl::StatusOr<bool> LowerConv(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerDepthwise(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerConvTranspose(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerPointwise(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerRowMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerBatchMatMul(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerEltwise(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerMap(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantizedAdd(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerChannelScale(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantizedScale(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantizedMean(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerPool(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerResize(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerIf(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerRecurrent(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerReduce(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerSoftmax(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerLayerNorm(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantizedLayerNorm(ProgramBuilder& b, const Unit& unit,
                                             std::string* reason);
absl::StatusOr<bool> LowerRowNorm(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerBatchNorm(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerResample(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerView(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerTranspose(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerConcat(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerSlice(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerSplit(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerExpand(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerPad(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerIndexed(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerDepthToSpace(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerGather(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerByteTable(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantize(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerDequantize(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerDynamicQuantize(ProgramBuilder& b, const Unit& unit, std::string* reason);
absl::StatusOr<bool> LowerQuantizeRows(ProgramBuilder& b, const Unit& unit, std::string* reason);

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_LOWER_RULES_H_

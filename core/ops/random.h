// Random numbers for operators: the same sequence for the same seed on every machine.
#ifndef HALFTONE_CORE_OPS_RANDOM_H_
#define HALFTONE_CORE_OPS_RANDOM_H_

#include <cstdint>
#include <random>

#include "core/graph/graph.h"

namespace halftone {

// True when the node's result is not a function of its inputs, or when a node in one of its
// subgraphs is such a node. Nobody may evaluate it ahead of time or merge it with its twin.
bool IsRandom(const Node& node);

// The node's attribute `seed`; without one a number made from the node's name, so that every
// evaluation of a node gives the same numbers and two nodes give different ones.
uint32_t SeedOf(const Node& node);

// The Mersenne Twister, with doubles made from it as NumPy does: equal seeds give NumPy's numbers.
class RandomStream {
 public:
  explicit RandomStream(uint32_t seed) : bits_(seed) {}
  double Uniform();  // [0, 1)
  double Normal();   // mean 0, variance 1

 private:
  std::mt19937 bits_;
};

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_RANDOM_H_

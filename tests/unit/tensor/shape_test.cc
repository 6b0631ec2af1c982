#include "core/tensor/shape.h"

#include <gmock/gmock.h>

namespace halftone {
namespace {

using ::testing::ElementsAre;

TEST(Shape, Prints) {
  EXPECT_EQ(ToString(Shape{}), "[]");
  EXPECT_EQ(ToString(Shape{1, 3, 224}), "[1,3,224]");
  EXPECT_EQ(ToString(SymbolicShape(Dims{Dim("batch"), Dim(3), Dim()})), "[batch,3,?]");
  EXPECT_EQ(ToString(SymbolicShape()), "?");
}

TEST(Shape, HasRowMajorStrides) {
  EXPECT_THAT(RowMajorStrides(Shape{2, 3, 4}), ElementsAre(12, 4, 1));
  EXPECT_THAT(RowMajorStrides(Shape{}), ElementsAre());
  EXPECT_EQ(ElementCount(Shape{2, 3, 4}), 24);
}

TEST(Dim, IsEqualOnlyWhenCertainlyTheSame) {
  EXPECT_EQ(Dim(3), Dim(3));
  EXPECT_FALSE(Dim(3) == Dim(4));
  EXPECT_EQ(Dim("n"), Dim("n"));
  EXPECT_FALSE(Dim("n") == Dim("m"));
  EXPECT_FALSE(Dim() == Dim()) << "two unknown sizes may differ";
  EXPECT_FALSE(Dim("n") == Dim(3));
}

TEST(Concrete, NeedsEveryDimension) {
  EXPECT_THAT(*Concrete(Symbolic(Shape{2, 3})), ElementsAre(2, 3));
  EXPECT_FALSE(Concrete(Dims{Dim(2), Dim("n")}));
  EXPECT_FALSE(Concrete(SymbolicShape()));
}

}  // namespace
}  // namespace halftone

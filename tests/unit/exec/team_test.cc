#include "core/exec/team.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <atomic>
#include <thread>

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DivideCpus, GivesEachThreadNeighbours) {
  EXPECT_THAT(DivideCpus({0, 1, 2, 3}, 4),
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2), ElementsAre(3)));
  EXPECT_THAT(DivideCpus({1, 3, 5, 7, 9}, 2), ElementsAre(ElementsAre(1, 3), ElementsAre(5, 7, 9)));
}

TEST(DivideCpus, HasNoPlacesForMoreThreadsThanCpusOrForOne) {
  EXPECT_THAT(DivideCpus({0, 1}, 3), IsEmpty());
  EXPECT_THAT(DivideCpus({0, 1}, 1), IsEmpty());
  EXPECT_THAT(DivideCpus({}, 2), IsEmpty());
}

int ThreadsOfARegion(int wanted) {
  std::atomic<int> threads{0};
  OnEachThread(wanted, [&](int) { ++threads; });
  return threads;
}

TEST(Team, RunsEachThreadInItsPlaceAndEnds) {
  const std::vector<int> cpus = UsableCpus();
  ASSERT_FALSE(cpus.empty());
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
  std::thread([&cpus] {
    Team team(DivideCpus(cpus, 2));
    EXPECT_FALSE(team.exists());
    for (int round = 0; round < 2; ++round) {
      team.Use(2);
      EXPECT_TRUE(team.exists());
      std::vector<int> where(2, -1), may(2, 0);
      OnEachThread(2, [&](int k) {
        where[k] = sched_getcpu();
        may[k] = static_cast<int>(UsableCpus().size());
      });
      EXPECT_GE(where[1], cpus[cpus.size() / 2]);
      EXPECT_EQ(may[0], cpus.size());  // the calling thread stays free
      EXPECT_EQ(may[1], cpus.size() - cpus.size() / 2);
      team.End();
      EXPECT_FALSE(team.exists());
      EXPECT_THAT(UsableCpus(), testing::ElementsAreArray(cpus));
    }
    EXPECT_EQ(ThreadsOfARegion(2), 2);  // a new one, anywhere
  }).join();
}

TEST(Team, OfMoreThreadsThanPlacesRunsAnywhere) {
  std::thread([] {
    Team team(DivideCpus({0}, 3));
    team.Use(3);
    EXPECT_EQ(ThreadsOfARegion(3), 3);
    team.Use(2);
    EXPECT_EQ(ThreadsOfARegion(2), 2);
    team.Use(1);
    EXPECT_FALSE(team.exists());
  }).join();
}

}  // namespace
}  // namespace halftone

// SPDX-License-Identifier: Apache-2.0
// A builtin of GCC that Clang lacks, declared so that clang-tidy can read the engine. Nothing is compiled with this file.
#pragma once

template <class Vector, class Order>
Vector __builtin_shuffle(const Vector&, const Order&);
template <class Vector, class Order>
Vector __builtin_shuffle(const Vector&, const Vector&, const Order&);

/** What long calls tell their caller while they run: one union, for progress bars, logs and services alike. */
import type { StepRecord } from './loop.js';

export type TrainEvent =
  /** The plan in words; then, before the first step, what computes and how long it will take. */
  | { readonly kind: 'plan'; readonly lines: readonly string[] }
  /** Something worth knowing that is no fault. */
  | { readonly kind: 'note'; readonly message: string }
  | { readonly kind: 'warning'; readonly message: string }
  /** Cases looked at or prepared. */
  | {
      readonly kind: 'cases';
      readonly what: 'inspect' | 'prepare';
      readonly done: number;
      readonly total: number;
      readonly id: string;
    }
  | ({ readonly kind: 'step'; readonly steps: number } & StepRecord)
  | {
      readonly kind: 'validation';
      readonly step: number;
      readonly meanDice: number | null;
      /** By the classes' names; null for a class that is in no case. */
      readonly perClass: Readonly<Record<string, number | null>>;
      readonly best: boolean;
    }
  | { readonly kind: 'saved'; readonly file: string };

/** Of the commands that report a case's progress through callbacks of their own. */
export type CaseEvent =
  /** Tiles of a case that is being segmented. */
  | {
      readonly kind: 'predict';
      readonly id: string;
      readonly index: number;
      readonly total: number;
      readonly done: number;
      readonly tiles: number;
    }
  /** Cases whose metrics are known. */
  | { readonly kind: 'evaluate'; readonly id: string; readonly done: number; readonly total: number };

export type OnEvent = (event: TrainEvent) => void;
